"""Baselines that see no data: decay, magnitude, chance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.seeds import derive, generator
from ssmith.core.selective import LayerWeights
from ssmith.criteria.selective.protocol import Scoring


class _DataFree(ABC):
    """Scores entries by the layer's weights alone, and columns by their mean."""

    @abstractmethod
    def _scores(self, weights: LayerWeights) -> Float64[Tensor, "e n"]:
        """Score every entry of A_log."""

    @property
    def entries(self) -> Scoring:
        """How entries of A_log are scored."""
        return Scoring(score=lambda _, weights: self._scores(weights))

    @property
    def columns(self) -> Scoring:
        """How state columns are scored."""
        return Scoring(score=lambda _, weights: self._scores(weights).mean(0))


@dataclass(frozen=True, kw_only=True)
class FastestDecay(_DataFree):
    """The entries that forget fastest go first: score ``−A_log``.

    Source: an entry with a large A_log is memoryless already, so cutting its memory costs least.
    """

    label: ClassVar[str] = "Fastest decay first"

    def _scores(self, weights: LayerWeights) -> Float64[Tensor, "e n"]:
        return -weights.A_log


@dataclass(frozen=True, kw_only=True)
class LogMagnitude(_DataFree):
    """Magnitude pruning of A_log: score ``|A_log|``.

    Source: SparseSSM (arXiv 2506.09613), baseline "MP". It cuts the entries with A near −1, the
        slowest and most used, first.
    Differs: a share s of all entries removes round(s·size) of them here, as for every criterion,
        and size − int(size·(1 − s)) in the released code: one more where s·size is no integer.
    """

    label: ClassVar[str] = "Magnitude of A_log"

    def _scores(self, weights: LayerWeights) -> Float64[Tensor, "e n"]:
        return weights.A_log.abs()


@dataclass(frozen=True, kw_only=True)
class RandomEntries(_DataFree):
    """Chance.

    Args:
        seed: of the draw, ≥ 0.
    """

    label: ClassVar[str] = "Random"

    seed: int = 0

    def __post_init__(self) -> None:
        derive(self.seed)

    def _scores(self, weights: LayerWeights) -> Float64[Tensor, "e n"]:
        draw = generator(self.seed, "random entries", weights.layer)
        return torch.rand(weights.A_log.shape, dtype=torch.float64, generator=draw)
