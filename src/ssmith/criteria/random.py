"""Random: the baseline that knows nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.checks import check_choice
from ssmith.core.layers import Modes
from ssmith.core.scores import Pool
from ssmith.core.seeds import derive, generator
from ssmith.criteria.common import ModeCriterion


@final
@dataclass(frozen=True, kw_only=True)
class Random(ModeCriterion):
    """Independent uniform scores in [0, 1), drawn per layer from one seed.

    Args:
        seed: integer ≥ 0; the same seed and layer name give the same scores.
        pool: ``"model"`` removes states at random over all layers, ``"layer"`` the same share of
            every layer.

    Source: LAST (arXiv 2411.02824), the baseline Random.
    Differs: unstable modes are kept, as under every criterion here.
    """

    seed: int = 0
    pool: Pool = "model"

    def __post_init__(self) -> None:
        # Deriving checks the seed at the door instead of at the first layer.
        derive(self.seed)
        check_choice("pool", self.pool, get_args(Pool))

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        return "Random" if self.pool == "model" else "Uniform random"

    def _measure(self, modes: Modes) -> Float64[Tensor, "s"]:
        source = generator(self.seed, "criterion", "random", modes.layer)
        return torch.rand(modes.count, dtype=torch.float64, generator=source)
