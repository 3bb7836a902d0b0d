"""The curves of quality against removed states, read from a receipt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssmith.core.receipt import Receipt
from ssmith.report.look import find, mapping, number, text


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured point.

    Args:
        asked: fraction of states asked to be removed, or None.
        removed: fraction really removed.
        value: quality there.
        low: lower end of its interval, or None.
        high: upper end of its interval, or None.
    """

    asked: float | None
    removed: float
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Curves:
    """All curves of one pilot.

    Args:
        metric: name of the quality.
        higher_is_better: its direction.
        split: the split it was measured on.
        count: how many sequences that split holds, or None.
        counted: what they are: sequences, or windows of text.
        dense: quality of the unpruned model, or None.
        tolerance: quality that may be lost, in units of the metric, or None.
        chosen: name of the chosen method, empty if none was.
        point: the chosen point, or None.
        methods: per method, its points by rising share removed.
    """

    metric: str
    higher_is_better: bool
    split: str
    count: int | None
    counted: str
    dense: Point | None
    tolerance: float | None
    chosen: str
    point: Point | None
    methods: dict[str, list[Point]]

    @property
    def others(self) -> dict[str, list[Point]]:
        """The methods that were not chosen."""
        return {name: points for name, points in self.methods.items() if name != self.chosen}

    @property
    def acceptable(self) -> tuple[float, float] | None:
        """The band from the unpruned quality to the worst that is tolerated."""
        if self.dense is None or self.tolerance is None:
            return None
        edge = self.tolerance if not self.higher_is_better else -self.tolerance
        low, high = sorted((self.dense.value, self.dense.value + edge))
        return low, high


def read_curves(receipt: Receipt) -> Curves | None:
    """Return the curves, or None if the receipt holds no drawable point."""
    curve = mapping(receipt.details, "curve")
    methods = {}
    for name, points in mapping(curve, "methods").items():
        read = [point for point in map(_point, points) if point] if isinstance(points, list) else []
        if read:
            methods[text({"name": name}, "name")] = sorted(read, key=lambda point: point.removed)
    if not methods:
        return None
    count = number(curve, "count")
    chosen = text(curve, "chosen", "method")
    return Curves(
        metric=text(curve, "metric") or text(receipt.quality, "metric") or "quality",
        higher_is_better=find(receipt.quality, "higher_is_better") is not False,
        split=text(curve, "split"),
        count=None if count is None else int(count),
        counted=text(curve, "counted") or "sequences",
        dense=_point({"removed": 0.0, **mapping(curve, "dense")}),
        tolerance=number(curve, "tolerance"),
        chosen=chosen,
        point=_chosen_point(methods.get(chosen, []), mapping(curve, "chosen")),
        methods=methods,
    )


def _point(entry: Any) -> Point | None:
    removed, value = number(entry, "removed"), number(entry, "value")
    if removed is None:
        removed = number(entry, "fraction")
    if removed is None or value is None:
        return None
    return Point(
        asked=number(entry, "fraction"),
        removed=removed,
        value=value,
        low=number(entry, "low"),
        high=number(entry, "high"),
    )


def _chosen_point(points: list[Point], chosen: dict[str, Any]) -> Point | None:
    """Return the measured point nearest to the chosen one."""
    where = number(chosen, "removed")
    if where is None:
        where = number(chosen, "fraction")
    if where is None or not points:
        return None
    return min(points, key=lambda point: abs(point.removed - where))
