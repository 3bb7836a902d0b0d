"""The curve of a pilot: what a model is worth at each share of units removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ssmith.core.findings import Finding
from ssmith.core.settings import AsDict

# A loss equal to the tolerance is within it, also after rounding of the last bit.
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Point:
    """One cut, measured; one that cannot be made or measured is a point too, with the reason.

    Args:
        sparsity: share asked to be removed, in [0, 1).
        removed: share really removed; None if it could not be cut.
        value: the metric; None if it could not be measured.
        low: lower end of its interval.
        high: upper end of its interval.
        why: why there is no value.
        recovered: whether the cut model was recovered before it was measured.
        validation: what the recovery did to its validation loss.
        refused: why it is not within what may be lost, whatever its value: by the own metric.
    """

    sparsity: float
    removed: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""
    recovered: bool = False
    validation: dict[str, Any] = field(default_factory=dict)
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """What may be lost.

    ``tolerance`` is how far it may fall behind the dense model, in its own unit.
    """

    dense: float
    higher_is_better: bool
    tolerance: float

    def within(self, points: Sequence[Point]) -> int:
        """Return how many points, from the smallest cut on, are within the tolerance.

        One point beyond it, or one that could not be measured, ends the count: a larger cut that
        happens to look better again is luck of the sample, not a safer model.

        Points are of rising sparsity.
        """
        for count, point in enumerate(points):
            if point.value is None or point.refused:
                return count
            loss = self.dense - point.value if self.higher_is_better else point.value - self.dense
            if loss > self.tolerance + _ROUNDING:
                return count
        return len(points)

    def best_of(self, swept: Mapping[str, Sequence[Point]]) -> str:
        """Return which method removes most within the tolerance; the first of equally good ones."""
        return max(swept, key=lambda name: self.within(swept[name]))


@dataclass(frozen=True, kw_only=True)
class Curve(AsDict):
    """All points of a pilot, and which of them was chosen.

    The tolerance is how far the metric may fall behind the dense model's, in its own unit.
    ``method`` names what cuts; ``chosen`` is the label of the chosen point's method, empty if none
    is within the tolerance. Points are of rising sparsity.
    """

    metric: str
    higher_is_better: bool
    split: str
    count: int
    counted: str
    dense: Point
    tolerance: float
    method: str
    chosen: str
    point: Point | None
    methods: dict[str, tuple[Point, ...]]

    def failed(self) -> list[Finding]:
        """Return one finding for each point that could not be measured, or was refused."""
        return [
            Finding(
                layer="",
                kind="own-metric" if point.refused else "not-measured",
                message=f"{label}, {point.sparsity:g} removed: {point.refused or point.why}",
            )
            for label, points in self.methods.items()
            for point in points
            if point.value is None or point.refused
        ]


def between(sparsities: Sequence[float], good: int, count: int) -> list[float]:
    """Return ``count`` sparsities between the last good one and the next, evenly spaced.

    There is none where the first ``good`` sparsities are all of them.
    """
    if good == len(sparsities):
        return []
    low = sparsities[good - 1] if good else 0.0
    step = (sparsities[good] - low) / (count + 1)
    return [round(low + step * k, 6) for k in range(1, count + 1)]
