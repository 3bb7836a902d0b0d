"""What did not go well: refusals, losses beyond doubt, and costs that rose."""

from __future__ import annotations

from ssmith.core.receipt import Receipt
from ssmith.core.times import GAIN
from ssmith.report.costs import read_memory, read_size, read_speed
from ssmith.report.look import flag, mapping, number, text
from ssmith.report.numbers import significant
from ssmith.report.summary import quality_number


def losing_cases(receipt: Receipt) -> list[str]:
    """Return one sentence for each thing a receipt shows that nobody would hope for.

    Args:
        receipt: any receipt.

    Returns:
        A refusal; quality that fell with the whole interval of the difference on the wrong side;
        measures of a tuning that did not fall; costs that rose by 5 % or more.
    """
    found = []
    if flag(receipt.verdict, "accepted") is False:
        found.append(f"Refused. {text(receipt.verdict, 'headline')}")
    return [*found, *_quality(receipt), *_measures(receipt), *_costs(receipt)]


def _quality(receipt: Receipt) -> list[str]:
    quality = receipt.quality
    low, high = (number(quality, "difference", end) for end in ("low", "high"))
    if low is None or high is None:
        return []
    worse = high < 0 if flag(quality, "higher_is_better") is not False else low > 0
    if not worse:
        return []
    shown = quality_number(receipt)
    where = f" on {text(receipt.data, 'name')}" if text(receipt.data, "name") else ""
    return [f"{shown.label} is worse{where}: {shown.before} → {shown.value}, {shown.note}."]


def _measures(receipt: Receipt) -> list[str]:
    if receipt.action != "tune":
        return []
    return [
        f"Tuning did not lower {name.replace('_', ' ')}: {tuned_difference(receipt, name)}."
        for name in tuned_measures(receipt)
        if (number(receipt.quality, name, "difference", "high") or 0.0) >= 0
    ]


def _costs(receipt: Receipt) -> list[str]:
    every = [*read_speed(receipt), *read_memory(receipt), *read_size(receipt)]
    return [
        f"{cost.label[:1].upper()}{cost.label[1:]}: {cost.before} → {cost.after}, {cost.change}."
        for cost in every
        if cost.ratio is not None and cost.ratio >= 1 + GAIN
    ]


def tuned_measures(receipt: Receipt) -> list[str]:
    """Return the names of what a tuning was judged by, before and after."""
    return [name for name in receipt.quality if mapping(receipt.quality, name, "difference")]


def tuned_difference(receipt: Receipt, name: str) -> str:
    """Return one measure of a tuning before and after, with the interval of the difference."""
    values = [number(receipt.quality, name, side, "value") for side in ("before", "after")]
    ends = [number(receipt.quality, name, "difference", end) for end in ("low", "high")]
    if None in (*values, *ends):
        return "not measured"
    before, after, low, high = (significant(value or 0.0, 4) for value in (*values, *ends))
    return f"{before} → {after} (difference {low} to {high})"
