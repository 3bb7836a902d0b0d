"""How much of a metric may be lost: a share, or an amount with its unit; read in one place."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ssmith.core.errors import InputError

_TEXT = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*((?:[^\W\d]|%).*)?")
SHARE, PERCENT, POINTS, ABSOLUTE = "share", "%", "points", "absolute"
_UNITS = {
    "": SHARE,
    **dict.fromkeys(("%", "percent", "per cent"), PERCENT),
    **dict.fromkeys(("point", "points", "pp", "percentage points"), POINTS),
    ABSOLUTE: ABSOLUTE,
}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The metric that a tolerance is about.

    Args:
        metric: its name, which is also a unit: ``"0.02 mean absolute error"``.
        share: whether it is a share of all, told in points (accuracy).
        relative: whether its losses are told as a share of its value (perplexity).
        dense: its value before; None while nothing is measured.
        naive: what somebody reaches who never looks at the inputs; None if that is not known.
        answer: what that answer is, e.g. ``"the most frequent class"``.
    """

    metric: str
    share: bool = False
    relative: bool = False
    dense: float | None = None
    naive: float | None = None
    answer: str = "a naive answer"

    @property
    def is_from_naive(self) -> bool:
        """Whether shares are of the distance between the model and a naive answer."""
        return self.naive is not None and not self.relative


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """How much of a metric may be lost, as it was given.

    Args:
        amount: ≥ 0, in units of ``unit``.
        unit: ``"share"`` of a plain number, ``"%"``, ``"points"``, ``"absolute"``, or the name of a
            metric.
        name: of the setting, for errors.
    """

    amount: float
    unit: str = SHARE
    name: str = "max_loss"

    @classmethod
    def read(cls, given: object, name: str = "max_loss") -> Threshold:
        """Read what somebody gave: 0.01, "1 %", "0.5 points", "0.02 absolute".

        Raises `InputError`, for the setting of a name, if it is none, negative, not finite, or a
        plain number of 1 or more.
        """
        if isinstance(given, Threshold):
            return given
        number = isinstance(given, int | float) and not isinstance(given, bool)
        text = repr(float(given)) if number else given  # type: ignore[arg-type]
        found = _TEXT.fullmatch(text.strip()) if isinstance(text, str) else None
        allowed = "a share of at least 0 and below 1, '1 %', '0.5 points' or '0.02 absolute'"
        if found is None or not 0 <= float(found[1]) < math.inf:
            raise InputError(f"{name} is {given!r}", allowed=f"{allowed}; numbers ≥ 0")
        amount, word = float(found[1]), " ".join((found[2] or "").split())
        unit = _UNITS.get(word.lower(), word)
        if unit == SHARE and amount >= 1:
            raise InputError(
                f"{name} is {given}, which would be {100 * amount:g} %",
                allowed=allowed,
                next_step=f"write '{amount:g} %', '{amount:g} points' or '{amount:g} absolute'",
            )
        return cls(amount=amount, unit=unit, name=name)

    def loss(self, scale: Scale) -> float:
        """Return the loss that is allowed, ≥ 0, in the metric's own unit.

        Of a model no better than a naive answer, nothing may be lost of the distance between them.
        Raises `InputError` if the unit says nothing about this metric, or everything could be lost.
        """
        unit = self._checked(scale)
        if unit == POINTS:
            return self.amount / 100
        if unit == ABSOLUTE:
            return self.amount
        if unit == SHARE and scale.share:
            return self.amount
        return self._fraction * self._whole(scale)

    def said(self, scale: Scale) -> str:
        """Return how it is read, in words; with numbers once the value before is known."""
        unit = self._checked(scale)
        amount = f"{self.amount:g}"
        if unit == POINTS or (unit == SHARE and scale.share):
            points = 100 * self.loss(scale)
            return f"{points:g} point{'' if points == 1 else 's'} of {scale.metric}"
        if unit == ABSOLUTE:
            return f"{amount} of {scale.metric}, in its own unit"
        text = f"{100 * self._fraction:g} % of "
        value = f"the model's {scale.metric}"
        value += "" if scale.dense is None else f" ({scale.dense:.6g})"
        if scale.is_from_naive:
            naive = f"{scale.answer} ({scale.naive:.6g})"
            text += f"the distance between {value} and that of {naive}"
        else:
            text += value
        return text if scale.dense is None else f"{text}: {self.loss(scale):.4g}"

    @property
    def _fraction(self) -> float:
        return self.amount / 100 if self.unit == PERCENT else self.amount

    def _whole(self, scale: Scale) -> float:
        if scale.dense is None:
            raise InputError(f"{self.name}: {scale.metric} is not measured")
        if scale.is_from_naive and scale.naive is not None:
            return abs(scale.dense - scale.naive)
        return abs(scale.dense)

    def _checked(self, scale: Scale) -> str:
        """Return the unit, that of a metric by its name as absolute; refuse what has no meaning."""
        unit = ABSOLUTE if self.unit.lower() == scale.metric.lower() else self.unit
        shown = f"{self.name} is '{self.amount:g} {self.unit}' of {scale.metric}"
        known = (SHARE, PERCENT, ABSOLUTE) + (POINTS,) * scale.share
        if unit not in known:
            units = [f"'… {item}'" for item in known if item != SHARE]
            raise InputError(
                shown, allowed=f"a share below 1, {', '.join(units)} or '… {scale.metric}'"
            )
        whole = {POINTS: 100.0, PERCENT: 100.0, SHARE: 1.0, ABSOLUTE: 1.0}[unit]
        bounded = scale.share if unit == ABSOLUTE else not scale.relative
        if bounded and self.amount >= whole:
            raise InputError(f"{shown}, so that nothing would be refused", allowed="less")
        return unit
