"""Scores and kept states of every layer, read from a receipt."""

from __future__ import annotations

from dataclasses import dataclass

from ssmith.core.details import CutLayer
from ssmith.core.files import finite_or_none
from ssmith.core.receipt import Receipt
from ssmith.report.look import printable, shorten
from ssmith.report.numbers import percent


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer before and after, by its path in the model; None where the receipt does not say.

    Grids are in words, e.g. ``"64 × 32"``; scores are rank, index in the flat grid, score and
    whether it stays, best first, without states whose score is missing or not finite.
    """

    name: str
    grid: str
    before: int | None
    after: int | None
    scores: tuple[tuple[int, float, bool], ...]
    unscored: int

    @property
    def removed(self) -> str:
        """The share removed, in words."""
        if not self.before or self.after is None:
            return "–"
        return percent(1 - self.after / self.before)

    @property
    def threshold(self) -> float | None:
        """The score that parts kept from removed, or None if none does."""
        kept = [score for _, score, stays in self.scores if stays]
        gone = [score for _, score, stays in self.scores if not stays]
        if not kept or not gone or min(kept) < max(gone):
            return None
        return min(kept)


def read_layers(receipt: Receipt) -> list[Layer]:
    """Return the layers a receipt lists."""
    return [_layer(entry, index) for index, entry in enumerate(receipt.cut.layers)]


def shared_threshold(layers: list[Layer]) -> float | None:
    """Return the one score that parts kept from removed in all layers, or None."""
    everything = tuple(score for layer in layers for score in layer.scores)
    return Layer(name="", grid="", before=None, after=None, scores=everything, unscored=0).threshold


def short_names(names: list[str], limit: int) -> list[str]:
    """Return names of at most ``limit`` characters that still differ where the names do.

    Long dotted names lose the parts that all share: ``a.b.0.c.d`` → ``…b.0…``.
    """
    if len(names) < 2 or max(map(len, names)) <= limit:
        return [shorten(name, limit) for name in names]
    parts = [name.split(".") for name in names]
    fewest = min(map(len, parts))
    head = _shared(parts, range(fewest - 1))
    tail = _shared(parts, range(-1, head - fewest, -1))
    first = max(head - 1, 0)
    kept = [".".join(part[first : len(part) - tail]) for part in parts]
    lead, trail = "…" if first else "", "…" if tail else ""
    return [shorten(f"{lead}{name}{trail}", limit) for name in kept]


def _shared(parts: list[list[str]], places: range) -> int:
    """Return at how many of the places, in order, all parts are equal."""
    equal = 0
    for place in places:
        if len({part[place] for part in parts}) > 1:
            break
        equal += 1
    return equal


def _layer(entry: CutLayer, index: int) -> Layer:
    read = [
        (place, value, stays)
        for place, (score, stays) in enumerate(zip(entry.scores, entry.kept, strict=False))
        if (value := finite_or_none(score)) is not None
    ]
    return Layer(
        name=printable(entry.name) or f"layer {index + 1}",
        grid=" × ".join(map(str, entry.grid)),
        before=entry.before,
        after=entry.after,
        scores=tuple(sorted(read, key=lambda item: (-item[1], item[0]))),
        unscored=max(len(entry.scores), len(entry.kept)) - len(read),
    )
