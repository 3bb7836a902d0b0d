"""SparseSSM, first version: every time step votes for what should go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ssmith.core.checks import check_choice
from ssmith.core.selective import LayerWeights, Statistics
from ssmith.criteria.selective.energies import gathered
from ssmith.criteria.selective.protocol import Scoring
from ssmith.criteria.selective.sparsessm import ramp
from ssmith.ops.selective_scan import ScanInputs, StatisticsConfig
from ssmith.ops.votes import votes_for_smallest


@dataclass(frozen=True, kw_only=True)
class SparseSSMVotes:
    """At each step the K units with the smallest ``A_log²·S_t`` get a vote; most votes go first.

    ``S_t`` sums the squared state before step t over sequences; a column's metric is the sum over
    channels.

    Args:
        form: ``votes``, or ``sum`` to add the metric up over time instead.
        first_step: ``skip``: step 0, where every state is zero, has no vote; ``vote``: it votes
            for the K last units, a defined stand-in for the arbitrary choice of the released code.
        accumulation: ``official``: later sequences weigh more (see `SparseSSM`); ``exact``: all
            weigh the same.

    Source: SparseSSM (arXiv 2506.09613), June 2025, algorithm 1, and its structured variant.
    Differs: of equal metrics at a step, and of equal votes, the later unit goes first; the
        released code leaves both to the order torch.topk happens to give.
    """

    form: Literal["votes", "sum"] = "votes"
    first_step: Literal["skip", "vote"] = "skip"
    accumulation: Literal["official", "exact"] = "official"

    def __post_init__(self) -> None:
        check_choice("form", self.form, ("votes", "sum"))
        check_choice("first_step", self.first_step, ("skip", "vote"))
        check_choice("accumulation", self.accumulation, ("official", "exact"))

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        return "SparseSSM v1" + (" (summed)" if self.form == "sum" else "")

    @property
    def entries(self) -> Scoring:
        """How entries of A_log are scored."""
        return self._scoring(columns=False)

    @property
    def columns(self) -> Scoring:
        """How state columns are scored."""
        return self._scoring(columns=True)

    def _scoring(self, *, columns: bool) -> Scoring:
        return Scoring(
            gather=lambda scan, weights, removed: self._gather(
                scan, weights, removed, columns=columns
            ),
            score=lambda sums, _: -sums["votes"] if self.form == "votes" else sums["metric"],
            lockstep=True,
        )

    def _gather(
        self, scan: ScanInputs, weights: LayerWeights, removed: int, *, columns: bool
    ) -> Statistics:
        weigh = ramp(scan) if self.accumulation == "official" else None
        if self.form == "sum":
            config = StatisticsConfig(energies=("h_before",), sample_weights=weigh)
            metric = gathered(scan, config)["h_before"] * weights.A_log.to(scan.A).square()
            return {"metric": metric.sum(0) if columns else metric}
        shape = scan.A.shape[1:] if columns else scan.A.shape
        votes = torch.zeros(shape, dtype=torch.float64, device=scan.A.device)
        # In the order of memory in which the kernels show what is multiplied with it.
        scale = weights.A_log.to(scan.A).square().mT.contiguous().mT

        def visit(start: int, squares: Tensor) -> None:
            skipped = 1 if start == 0 and self.first_step == "skip" else 0
            metric = squares[skipped:]
            if columns:
                votes.add_(votes_for_smallest(metric.mul_(scale).sum(1), removed))
            else:
                votes.add_(votes_for_smallest(metric, removed, scale))

        gathered(scan, StatisticsConfig(energies=(), sample_weights=weigh, visit=visit))
        return {"votes": votes}
