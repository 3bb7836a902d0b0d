"""A duration before and after, and how much of the difference counts as a change."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssmith.core.errors import InputError

GAIN = 0.05
"""A change below this share of the old value is called no gain."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """A duration before and after: the one rule for what a measured time may claim.

    A median can keep part of a warm-up or of what else the machine did; the least time cannot, but
    rests on one sample. A change counts where both show it, and then the smaller one.

    Args:
        medians: median seconds, (before, after), > 0.
        least: least seconds, (before, after), > 0; None if only medians are known.
    """

    medians: tuple[float, float]
    least: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for seconds in (*self.medians, *(self.least or ())):
            if not math.isfinite(seconds) or seconds <= 0:
                raise InputError(f"a time is {seconds} seconds", allowed="a number > 0")

    @property
    def _ratios(self) -> tuple[float, ...]:
        sides = (self.medians,) if self.least is None else (self.medians, self.least)
        return tuple(after / before for before, after in sides)

    @property
    def disagree(self) -> bool:
        """Whether one of median and least time fell and the other rose."""
        return min(self._ratios) < 1 < max(self._ratios)

    @property
    def ratio(self) -> float:
        """After over before, of medians or least times the nearer to 1; 1 if they disagree."""
        if self.disagree:
            return 1.0
        return min(self._ratios, key=lambda ratio: abs(math.log(ratio)))

    @property
    def changed(self) -> bool:
        """Whether the ratio is far enough from 1 to be called faster or slower."""
        return self.ratio <= 1 - GAIN or self.ratio >= 1 + GAIN

    def over(self, count: int) -> Times:
        """Return the times of one of ``count`` equal parts, ≥ 1."""
        least = None if self.least is None else (self.least[0] / count, self.least[1] / count)
        return Times(medians=(self.medians[0] / count, self.medians[1] / count), least=least)
