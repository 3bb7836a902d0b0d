"""Subsets whose loss counts together: cross terms between the states of a channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.core.selective import LayerWeights, Statistics
from ssmith.criteria.selective.energies import gathered, sums_of
from ssmith.criteria.selective.protocol import Scoring
from ssmith.ops.selective_scan import ScanInputs, StatisticsConfig


@dataclass(frozen=True, kw_only=True)
class GramGreedy:
    """Remove, again and again, what adds least to the energy of everything removed so far.

    The loss of a set S is ``1ᵀ G[S, S] 1`` with ``G = E[g² v vᵀ]``, v being ``C Ā h`` of a
    channel's entries, or ``C h`` of all columns (summed over channels with ‖W_out[:, e]‖²). A
    score is the largest step of the greedy path up to its unit, so that a threshold on scores cuts
    every channel along its own path.

    Source: the quadratic form of the exact change of ``y`` when Ā of a set of entries becomes 0,
        or when its columns are removed.
    Differs: from picking by the diagonal (`OutputEnergy`): states that cancel each other may go
        together, and states that add up may not.
    """

    label: ClassVar[str] = "Gram greedy"

    @property
    def entries(self) -> Scoring:
        """How entries of A_log are scored: on Σ g² (C Ā h)(C Ā h)ᵀ per channel."""
        config = StatisticsConfig(energies=(), gram="C_A_bar_h", gated=True)
        return Scoring(gather=sums_of(config), score=_of_entries, of_output=True)

    @property
    def columns(self) -> Scoring:
        """How state columns are scored: on Σ_e ‖W_out[:, e]‖²·g² (C h)(C h)ᵀ."""
        return Scoring(gather=_of_all_channels, score=_of_columns, of_output=True)


def _of_entries(sums: Statistics, weights: LayerWeights) -> Float64[Tensor, "e n"]:
    gram = sums["gram"] / sums["weight"] * weights.out_energy[:, None, None]
    return greedy_scores(gram, weights.present)


def _of_all_channels(scan: ScanInputs, weights: LayerWeights, removed: int) -> Statistics:
    del removed
    found = gathered(scan, StatisticsConfig(energies=(), gram="C_h", gated=True))
    omega = weights.out_energy.to(found["gram"])
    return {"gram": torch.einsum("e,enk->nk", omega, found["gram"]), "weight": found["weight"]}


def _of_columns(sums: Statistics, weights: LayerWeights) -> Float64[Tensor, "n"]:
    del weights
    gram = sums["gram"] / sums["weight"]
    return greedy_scores(gram[None], torch.ones_like(gram[:1], dtype=torch.bool))[0]


def greedy_scores(
    gram: Float64[Tensor, "e n n"], present: Bool[Tensor, "e n"]
) -> Float64[Tensor, "e n"]:
    """Return each state's place on its row's greedy path, as the largest cost up to it.

    ``gram`` is, per row, that of the removed contributions. Scores rise along each path; equal ones
    are in the path's order of index.
    """
    rows = torch.arange(gram.shape[0])
    cost = torch.diagonal(gram, dim1=1, dim2=2).clone()
    gone = ~present
    scores = torch.zeros_like(cost)
    reached = torch.full_like(cost[:, 0], -torch.inf)
    for _ in range(gram.shape[1]):
        open_cost = cost.masked_fill(gone, torch.inf)
        pick = open_cost.argmin(dim=1)
        step = open_cost[rows, pick]
        left = torch.isfinite(step)
        reached = torch.where(left, torch.maximum(reached, step), reached)
        scores[rows[left], pick[left]] = reached[left]
        gone[rows[left], pick[left]] = True
        cost = cost + 2 * gram[rows, pick] * left[:, None]
    return scores
