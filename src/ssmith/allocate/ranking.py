"""Which units stay: by one threshold over all layers, or by a share within each."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from ssmith.allocate.pool import LayerPool
from ssmith.core.budget import Ties


def keep_over_layers(
    pools: list[LayerPool], kept: int, *, ties: Ties
) -> tuple[list[Bool[Tensor, "s"]], float | None]:
    """Keep ``kept`` units by one threshold; equal scores in order of layer and index.

    ``kept`` is at least what is forced and at most what is present. The threshold is the smallest
    score kept by rank; None if forced units alone filled the budget.

    Source: LAST (arXiv 2411.02824), released code: keep ``score ≥ τ``, τ the K-th largest.
    Differs: exactly K stay unless ``ties="keep"``.
    """
    counts = [pool.forced for pool in pools]
    free = kept - sum(counts)
    if free <= 0:
        return [pool.keep_first(pool.forced) for pool in pools], None
    rest = [pool.ranked[pool.forced - pool.protected_count :] for pool in pools]
    owner = torch.cat([torch.full((len(r),), i) for i, r in enumerate(rest)])
    ordered, order = torch.cat(rest).sort(descending=True, stable=True)
    threshold = float(ordered[free - 1])
    won = torch.bincount(owner[order[:free]], minlength=len(pools)).tolist()
    counts = [count + extra for count, extra in zip(counts, won, strict=True)]
    if ties == "keep":
        counts = [
            max(count, pool.count_at_least(threshold))
            for count, pool in zip(counts, pools, strict=True)
        ]
    return [pool.keep_first(n) for pool, n in zip(pools, counts, strict=True)], threshold


def keep_within_layers(pools: list[LayerPool], kept: int, *, ties: Ties) -> list[Bool[Tensor, "s"]]:
    """Keep each layer's share of ``kept`` units, the best of each layer."""
    counts = apportion(
        [pool.size for pool in pools],
        kept,
        least=[pool.forced for pool in pools],
        most=[pool.available for pool in pools],
    )
    if ties == "keep":
        counts = [_with_ties(pool, n) for pool, n in zip(pools, counts, strict=True)]
    return [pool.keep_first(n) for pool, n in zip(pools, counts, strict=True)]


def apportion(sizes: list[int], kept: int, *, least: list[int], most: list[int]) -> list[int]:
    """Share ``kept`` out in proportion to ``sizes`` by largest remainder, within bounds.

    Each layer starts at its quota ``kept·size/Σsize`` rounded down and moved into its bounds.
    What is then missing goes, one by one, to the layer furthest below its quota; what is too
    much is taken from the layer furthest above. Equal distances go by order of layer.

    ``Σleast ≤ kept ≤ Σmost``.
    """
    total = sum(sizes)
    layers = range(len(sizes))
    counts = [min(max(kept * sizes[i] // total, least[i]), most[i]) for i in layers]

    def shortfall(i: int) -> int:
        return kept * sizes[i] - counts[i] * total

    while sum(counts) < kept:
        counts[max((i for i in layers if counts[i] < most[i]), key=shortfall)] += 1
    while sum(counts) > kept:
        counts[min((i for i in layers if counts[i] > least[i]), key=shortfall)] -= 1
    return counts


def _with_ties(pool: LayerPool, count: int) -> int:
    by_rank = count - pool.protected_count
    if by_rank <= 0:
        return count
    return max(count, pool.count_at_least(float(pool.ranked[by_rank - 1])))
