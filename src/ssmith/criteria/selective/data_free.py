"""Baselines that see no data: decay, magnitude, chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.seeds import derive, generator
from ssmith.core.selective import LayerWeights, Statistics
from ssmith.ops.selective_scan import ScanInputs


@dataclass(frozen=True, kw_only=True)
class FastestDecay:
    """The entries that forget fastest go first: score ``−A_log``; columns by their mean.

    Source: an entry with a large A_log is memoryless already, so cutting its memory costs least.
    """

    label: ClassVar[str] = "Fastest decay first"
    needs_data: ClassVar[bool] = False
    lockstep: ClassVar[bool] = False
    scores_columns: ClassVar[bool] = True
    scores_output: ClassVar[bool] = False

    def gather_entries(self, scan: ScanInputs, weights: LayerWeights, removed: int) -> Statistics:
        """Return nothing."""
        del scan, weights, removed
        return {}

    def entries(self, gathered: Statistics, weights: LayerWeights) -> Float64[Tensor, "e n"]:
        """Score every entry of A_log."""
        del gathered
        return -weights.A_log

    def gather_columns(self, scan: ScanInputs, weights: LayerWeights, removed: int) -> Statistics:
        """Return nothing."""
        return self.gather_entries(scan, weights, removed)

    def columns(self, gathered: Statistics, weights: LayerWeights) -> Float64[Tensor, "n"]:
        """Score every state column."""
        return self.entries(gathered, weights).mean(0)


@dataclass(frozen=True, kw_only=True)
class LogMagnitude(FastestDecay):
    """Magnitude pruning of A_log: score ``|A_log|``; columns by their sum.

    Source: SparseSSM (arXiv 2506.09613), baseline "MP". It cuts the entries with A near −1, the
        slowest and most used, first.
    Differs: a share s of all entries removes round(s·size) of them here, as for every criterion,
        and size − int(size·(1 − s)) in the released code: one more where s·size is no integer.
    """

    label: ClassVar[str] = "Magnitude of A_log"

    def entries(self, gathered: Statistics, weights: LayerWeights) -> Float64[Tensor, "e n"]:
        """Score every entry of A_log."""
        del gathered
        return weights.A_log.abs()


@dataclass(frozen=True, kw_only=True)
class RandomEntries(FastestDecay):
    """Chance.

    Args:
        seed: of the draw, ≥ 0.
    """

    label: ClassVar[str] = "Random"

    seed: int = 0

    def __post_init__(self) -> None:
        derive(self.seed)

    def entries(self, gathered: Statistics, weights: LayerWeights) -> Float64[Tensor, "e n"]:
        """Score every entry of A_log."""
        del gathered
        draw = generator(self.seed, "random entries", weights.layer)
        return torch.rand(weights.A_log.shape, dtype=torch.float64, generator=draw)
