"""Scores of one selective layer → what stays, and how far the choice can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.core.errors import InputError
from ssmith.core.pattern import Pattern, keep_largest
from ssmith.core.words import span

_ROUNDING = 1e-9
STABLE = 0.9
"""Below this rank correlation, or overlap of the kept sets, a choice is reported as unstable."""


@dataclass(frozen=True, kw_only=True)
class Stability:
    """How alike the choices of two halves of the data are.

    Spearman's rank correlation is of the scores of all units, 1 if one half ranks nothing; the
    overlap is the share of the units one half keeps that the other keeps too.
    """

    rank_correlation: float
    overlap: float

    @property
    def stable(self) -> bool:
        """Whether both reach `STABLE`."""
        return min(self.rank_correlation, self.overlap) >= STABLE - _ROUNDING

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {**asdict(self), "threshold": STABLE, "stable": self.stable}


def removed_count(share: float, units: int, what: str) -> int:
    """Return how many of ``units`` a share removes, rounded.

    At least one, and not all; ``what`` names them in the error.
    """
    count = round(share * units)
    if 0 < count < units:
        return count
    raise InputError(
        f"{share:g} of {units} {what} is {'all of them' if count else 'none'}",
        allowed=f"{1 / units:.3g} to {1 - 1 / units:.3g}",
    )


def keep_entries(
    scores: Float64[Tensor, "e n"], present: Bool[Tensor, "e n"], removed: int | Pattern
) -> Bool[Tensor, "e n"]:
    """Keep the entries of A_log with the largest scores.

    An entry that was cut before stays cut, within the same budget. Of equal scores the later entry
    goes first.
    """
    ranked = scores.masked_fill(~present, -torch.inf)
    if isinstance(removed, Pattern):
        removed.check(scores.shape[1], "a channel")
        return removed.mask(ranked) & present
    return keep_largest(ranked.flatten(), removed).view_as(scores) & present


def entries_by_cost(costs: Mapping[str, Float64[Tensor, "e n"]], removed: int) -> dict[str, int]:
    """Split a number of entries to remove over layers, cheapest first.

    Costs are in one unit for all layers; of equal ones the later entry goes first.
    """
    flat = torch.cat([cost.flatten() for cost in costs.values()])
    gone = (~keep_largest(flat, removed)).split([cost.numel() for cost in costs.values()])
    return {layer: int(part.sum()) for layer, part in zip(costs, gone, strict=True)}


def columns_by_cost(costs: Mapping[str, Float64[Tensor, "n"]], removed: int) -> dict[str, int]:
    """Split a number of columns to remove over layers, cheapest first.

    Every layer keeps one at least.
    """
    most = sum(len(cost) - 1 for cost in costs.values())
    if not 0 < removed <= most:
        raise InputError(f"{removed} columns to remove", allowed=span(1, most))
    steps = [
        (float(value), place, number, layer)
        for number, (layer, cost) in enumerate(costs.items())
        for place, value in enumerate(cost.sort().values.cummax(0).values[:-1])
    ]
    counts = dict.fromkeys(costs, 0)
    for _, _, _, layer in sorted(steps)[:removed]:
        counts[layer] += 1
    return counts


def stability(
    scores: tuple[Float64[Tensor, "..."], Float64[Tensor, "..."]],
    kept: tuple[Bool[Tensor, "..."], Bool[Tensor, "..."]],
) -> Stability:
    """Compare the scores and choices two halves of the data lead to.

    Both halves keep as many.
    """
    both = torch.stack([_ranks(item.flatten()) for item in scores])
    varies = bool((both.std(dim=1, correction=0) > 0).all())
    correlation = float(torch.corrcoef(both)[0, 1]) if varies else 1.0
    together, either = (kept[0] & kept[1]).sum(), kept[0].sum()
    return Stability(
        rank_correlation=correlation, overlap=float(together / either) if either else 1.0
    )


def _ranks(values: Float64[Tensor, "s"]) -> Float64[Tensor, "s"]:
    """Return ranks from 0, equal values sharing their mean rank."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    ranks: Tensor = (last - (counts + 1) / 2)[place]
    return ranks
