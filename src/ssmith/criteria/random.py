"""Random: the baseline that knows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.layers import Modes
from ssmith.core.scores import Pool, Scores
from ssmith.core.seeds import derive, generator
from ssmith.criteria.common import check_choice, score_modes


@final
@dataclass(frozen=True, kw_only=True)
class Random:
    """Independent uniform scores in [0, 1), drawn per layer from one seed.

    Args:
        seed: integer ≥ 0; the same seed and layer name give the same scores.
        pool: ``"model"`` removes states at random over all layers, ``"layer"`` the same share of
            every layer.

    Raises:
        InputError: if the seed is negative or the pool is not one of these.

    Source: LAST (arXiv 2411.02824), the baseline Random.
    Differs: unstable modes are kept, as under every criterion here.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    seed: int = 0
    pool: Pool = "model"

    def __post_init__(self) -> None:
        # Deriving checks the seed at the door instead of at the first layer.
        derive(self.seed)
        check_choice("pool", self.pool, Pool)

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        return "Random" if self.pool == "model" else "Uniform random"

    def __call__(
        self, layers: Sequence[Modes], stats: Mapping[str, object] | None = None
    ) -> Scores:
        """Score every mode; no statistics are read."""
        return score_modes(self, layers, self._measure, self.pool)

    def _measure(self, modes: Modes) -> Float64[Tensor, "s"]:
        source = generator(self.seed, "criterion", "random", modes.layer)
        return torch.rand(modes.count, dtype=torch.float64, generator=source)
