"""The curves of quality against removed units, as they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

from ssmith.core.curve import Curve, Point
from ssmith.core.receipt import Receipt
from ssmith.report.look import printable


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One measured point: shares asked for and really removed, quality, and its interval if any."""

    asked: float
    removed: float
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A curve with what can be drawn of it: by method, measured points by rising share removed."""

    curve: Curve
    dense: Drawn | None
    point: Drawn | None
    methods: dict[str, list[Drawn]]

    @property
    def metric(self) -> str:
        """Name of the quality."""
        return printable(self.curve.metric)

    @property
    def split(self) -> str:
        """The split it was measured on."""
        return printable(self.curve.split)

    @property
    def counted(self) -> str:
        """What that split holds."""
        return printable(self.curve.counted)

    @property
    def chosen(self) -> str:
        """Name of the chosen method, empty if none was."""
        return printable(self.curve.chosen)

    @property
    def others(self) -> dict[str, list[Drawn]]:
        """The methods that were not chosen."""
        return {name: points for name, points in self.methods.items() if name != self.chosen}

    @property
    def acceptable(self) -> tuple[float, float] | None:
        """The band from the unpruned quality to the worst that is tolerated."""
        if self.dense is None:
            return None
        edge = self.curve.tolerance * (-1 if self.curve.higher_is_better else 1)
        low, high = sorted((self.dense.value, self.dense.value + edge))
        return low, high


def read_curves(receipt: Receipt) -> Curves | None:
    """Return the curves, or None if the receipt holds no drawable point."""
    curve = receipt.cut.curve
    if curve is None:
        return None
    methods = {}
    for name, points in curve.methods.items():
        shown = [drawn for point in points if (drawn := _drawn(point)) is not None]
        if shown:
            methods[printable(name)] = sorted(shown, key=lambda point: point.removed)
    if not methods:
        return None
    return Curves(
        curve=curve,
        dense=_drawn(curve.dense),
        point=None if curve.point is None else _drawn(curve.point),
        methods=methods,
    )


def _drawn(point: Point) -> Drawn | None:
    if point.removed is None or point.value is None:
        return None
    return Drawn(
        asked=point.sparsity,
        removed=point.removed,
        value=point.value,
        low=point.low,
        high=point.high,
    )
