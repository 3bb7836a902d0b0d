"""Numbers as people read them; the raw values stay in the CSV files and the receipt."""

from __future__ import annotations

import math
from collections.abc import Callable

from ssmith.core.times import GAIN, Times

NOT_MEASURED = "not measured"
_SPACE = "\u00a0"
_MINUS = "−"
_SHARES = ("accuracy", "f1", "auc", "precision", "recall")

Real = float | int
Format = Callable[[Real], str]


def significant(value: Real, digits: int = 3) -> str:
    """Render with up to ``digits`` significant digits and no exponent where that stays short."""
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    if not -5 < power < 7:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{_trimmed(mantissa)}e{int(exponent)}".replace("-", _MINUS)
    rounded = round(value, digits - 1 - power)
    return _trimmed(f"{rounded:.{max(digits - 1 - power, 0)}f}").replace("-", _MINUS)


def _trimmed(shown: str) -> str:
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def count(value: Real) -> str:
    """Render a whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f").replace("-", _MINUS)


def percent(fraction: Real, digits: int = 1) -> str:
    """Render a fraction in per cent: 0.983 → 98.3 %."""
    return f"{100 * fraction:.{digits}f}{_SPACE}%".replace("-", _MINUS)


def signed(value: Real, render: Format) -> str:
    """Render with an explicit sign, none for what is shown as zero."""
    shown = render(abs(value))
    if not any(digit in "123456789" for digit in shown):
        return shown
    return f"{'+' if value > 0 else _MINUS}{shown}"


def size(value: Real) -> str:
    """Render bytes: 1 KB is 1000 bytes."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if abs(value) >= factor:
            return f"{significant(value / factor)}{_SPACE}{unit}"
    return f"{value:.0f}{_SPACE}bytes"


def seconds(value: Real) -> str:
    """Render a duration: 0.0021 → 2.10 ms."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(value) >= factor:
            return f"{significant(value / factor)}{_SPACE}{unit}"
    return f"{significant(value / 1e-9)}{_SPACE}ns"


def ratio(value: Real) -> str:
    """Render a factor: 1.4×."""
    return f"{value:.{1 if value < 9.95 else 0}f}×"


def p_value(value: Real) -> str:
    """Render a p value, never as zero."""
    return "p < 0.001" if value < 0.001 else f"p = {significant(value, 2)}"


def faster(times: Times) -> str:
    """Say in words how a duration changed."""
    if times.disagree:
        return "no gain (medians and least times disagree)"
    if not times.changed:
        return f"no gain ({ratio(times.ratio)})"
    if times.ratio < 1:
        return f"{ratio(1 / times.ratio)} faster"
    return f"{ratio(times.ratio)} slower"


def smaller(before: Real, after: Real) -> str:
    """Say in words how a size changed."""
    if before <= 0:
        return "no ratio"
    change = after / before - 1
    if change <= -GAIN:
        return f"{percent(-change)} smaller"
    if change >= GAIN:
        return f"{percent(change)} larger"
    if after == before:
        return "the same"
    # Cut and not rounded: 0.94 % is not "0 %", and what grew is not called a gain of its sign.
    shown = f"{significant(100 * abs(change), 2)}{_SPACE}%"
    return f"{shown} {'smaller' if change < 0 else 'larger'}, no gain"


def quality_format(metric: str) -> Format:
    """Return how values of a metric are written: shares in per cent, others as they are."""
    if any(word in metric.lower() for word in _SHARES):
        return percent
    return lambda value: significant(value, 4)


def difference_format(metric: str) -> Format:
    """Return how a difference of two values of a metric is written."""
    if any(word in metric.lower() for word in _SHARES):
        return lambda value: signed(value, lambda size_: f"{100 * size_:.1f}{_SPACE}points")
    return lambda value: signed(value, lambda size_: significant(size_, 3))
