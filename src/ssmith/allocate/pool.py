"""One layer as the allocator sees it: its units in the order in which they are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from ssmith.core.errors import InputError
from ssmith.core.scores import Scores


@dataclass(frozen=True, kw_only=True)
class LayerPool:
    """The units of one layer, flat.

    ``size`` counts absent units too. ``order`` holds the present ones: protected ones first, then
    by score descending, equal scores by index; ``ranked`` are the scores of those that are not
    protected. The first ``forced`` must stay: the protected and the floor.
    """

    layer: str
    size: int
    order: Int64[Tensor, "a"]
    ranked: Float64[Tensor, "k"]
    protected_count: int
    forced: int

    @property
    def available(self) -> int:
        """How many units are present."""
        return self.order.numel()

    def keep_first(self, count: int) -> Bool[Tensor, "s"]:
        """Return the mask that keeps the first ``count`` units of the order."""
        mask = torch.zeros(self.size, dtype=torch.bool)
        mask[self.order[:count]] = True
        return mask

    def count_at_least(self, threshold: float) -> int:
        """Return how many units are protected or score at least ``threshold``."""
        return self.protected_count + int((self.ranked >= threshold).sum())


def pools_of(scores: Scores, floor: int) -> list[LayerPool]:
    """Order the units of every layer."""
    pools = []
    for layer, values in scores.values.items():
        protected, absent = scores.protected.get(layer), scores.absent.get(layer)
        if (
            protected is None
            or absent is None
            or not (protected.shape == absent.shape == values.shape)
        ):
            raise InputError(
                f"layer {layer}: protected or absent does not fit scores of {tuple(values.shape)}",
                allowed="masks of the shape of the scores",
            )
        pools.append(_pool(layer, values.flatten(), protected.flatten(), absent.flatten(), floor))
    return pools


def _pool(
    layer: str,
    values: Float64[Tensor, "s"],
    protected: Bool[Tensor, "s"],
    absent: Bool[Tensor, "s"],
    floor: int,
) -> LayerPool:
    held = (protected & ~absent).nonzero().flatten()
    candidates = (~protected & ~absent).nonzero().flatten()
    ranked, order = values[candidates].sort(descending=True, stable=True)
    available = held.numel() + candidates.numel()
    return LayerPool(
        layer=layer,
        size=values.numel(),
        order=torch.cat([held, candidates[order]]),
        ranked=ranked,
        protected_count=held.numel(),
        forced=max(held.numel(), min(floor, available)),
    )
