"""Scores of states of groups as they were published, to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.grouped import StateSample
from ssmith.core.selective import Statistics
from ssmith.criteria.grouped.protocol import StateScores


@dataclass(frozen=True, kw_only=True)
class _Energy(StateScores):
    stride: int = 1

    def scores(self, sums: Statistics) -> Float64[Tensor, "g n"]:
        return sums["energy"]


@dataclass(frozen=True, kw_only=True)
class GHOST(_Energy):
    """Energy that each state gives to the scan's output: ``Σ_t Σ H_j² C_j²``.

    Source: GHOST (arXiv 2602.11408). No gate, norm, output map or cross terms, and no refit.
    """

    label: ClassVar[str] = "GHOST"

    def gather(self, sample: StateSample) -> Statistics:
        squares = sample.states.double().square().sum(2) * sample.C.double().square()
        return {"energy": (squares * sample.valid[:, None, None]).sum(0)}


@dataclass(frozen=True, kw_only=True)
class GroupActivity(_Energy):
    """Energy of each state, whatever reads it: ``Σ_t Σ H_j²``.

    Source: as PerfMamba (arXiv 2511.22849) describes it in words; its formula is not published.
    """

    label: ClassVar[str] = "State energy"

    def gather(self, sample: StateSample) -> Statistics:
        squares = sample.states.double().square().sum(2)
        return {"energy": (squares * sample.valid[:, None, None]).sum(0)}


@dataclass(frozen=True, kw_only=True)
class UniQL(StateScores):
    """``Σ_heads √E[Δ² B_j²] · √E[C_j²]``: what goes in times what reads, without the recurrence.

    Source: UniQL (arXiv 2512.03383), whose square roots of matrices leave just this.
    Differs: Δ is the step size; the released code takes its logits, without bias and softplus.
    """

    label: ClassVar[str] = "UniQL"
    stride: int = 1

    def gather(self, sample: StateSample) -> Statistics:
        valid = sample.valid.double()
        steps, B, C = (item.double().square() for item in (sample.steps, sample.B, sample.C))
        return {
            "in": (steps.unsqueeze(-1) * B.unsqueeze(2) * valid[:, None, None, None]).sum(0),
            "out": (C * valid[:, None, None]).sum(0),
        }

    def scores(self, sums: Statistics) -> Float64[Tensor, "g n"]:
        return sums["in"].sqrt().sum(1) * sums["out"].sqrt()
