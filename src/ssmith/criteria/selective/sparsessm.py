"""SparseSSM, second version: the recurrent part of each state's energy, weighted over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.checks import check_choice, check_number
from ssmith.core.selective import LayerWeights, Statistics
from ssmith.criteria.selective.energies import gathered
from ssmith.criteria.selective.protocol import Scoring
from ssmith.ops.selective_scan import ScanInputs, StatisticsConfig

TimeWeights = Literal["power", "discount", "linear", "window", "uniform"]
_TIME = ("power", "discount", "linear", "window", "uniform")
_PARTS = 4


@dataclass(frozen=True, kw_only=True)
class SparseSSM:
    """``Q = Σ_t w_t Ψ_t² S_t``: how much each entry's memory holds.

    Args:
        time_weights: ``power``: (t + 1)^−power; ``discount``: discount^t; ``linear``: L − t;
            ``window``: 1 for the first max(1, ⌈L/4⌉) of L steps; ``uniform``: 1. They sum to one.
            Where it removes N of M, the released code takes ``window`` whatever it is told.
        power: exponent of ``power``, ≥ 0.
        discount: base of ``discount``, in (0, 1].
        accumulation: ``official``: ``Ψ_t = Σ_b Ā`` and ``S_t = Σ_b (b/B) h²`` apart, later
            sequences weighing more, as the released code's running update does; ``exact``:
            ``Ψ_t² S_t`` becomes ``Σ_b (Ā h)²``.

    Source: SparseSSM (arXiv 2506.09613), released code of October 2025, time-weighted aggregate.
    Differs: nothing with ``official``; K is rounded as in the code, and of equal scores the later
        entry goes first.
    """

    columns: ClassVar[None] = None

    time_weights: TimeWeights = "power"
    power: float = 1.0
    discount: float = 0.9
    accumulation: Literal["official", "exact"] = "official"

    def __post_init__(self) -> None:
        check_choice("time_weights", self.time_weights, _TIME)
        check_number("power", self.power, at_least=0)
        check_number("discount", self.discount, above=0, below=1 + 1e-12)
        check_choice("accumulation", self.accumulation, ("official", "exact"))

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        return "SparseSSM v2" + (" (exact sums)" if self.accumulation == "exact" else "")

    @property
    def entries(self) -> Scoring:
        """How entries of A_log are scored: by Q, which official sums combine step by step."""
        return Scoring(
            gather=self._gather,
            score=lambda sums, _: sums["Q"],
            lockstep=self.accumulation == "official",
        )

    def _gather(self, scan: ScanInputs, weights: LayerWeights, removed: int) -> Statistics:
        """Return Q of a batch."""
        del weights, removed
        steps = time_weights(self, scan.x.shape[1]).to(scan.x.device)
        if self.accumulation == "exact":
            found = gathered(scan, StatisticsConfig(energies=("A_bar_h",), time_weights=steps))
            return {"Q": found["A_bar_h"]}
        config = StatisticsConfig(energies=(), sample_weights=ramp(scan), apart=steps)
        return {"Q": gathered(scan, config)["apart"]}


def time_weights(settings: SparseSSM, steps: int) -> Float64[Tensor, "l"]:
    """Return the weight of every step, summing to one."""
    t = torch.arange(steps, dtype=torch.float64)
    weights = {
        "power": (t + 1) ** -settings.power,
        "discount": settings.discount**t,
        "linear": steps - t,
        "window": (t < max(1, math.ceil(steps / _PARTS))).double(),
        "uniform": torch.ones_like(t),
    }[settings.time_weights]
    return weights / weights.sum()


def ramp(scan: ScanInputs) -> Float64[Tensor, "b"]:
    """Return the weight b/B that the released running update gives the b-th of B sequences."""
    count = scan.x.shape[0]
    return torch.arange(1, count + 1, dtype=torch.float64, device=scan.x.device) / count
