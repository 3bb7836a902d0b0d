"""Uniform magnitude and Global magnitude: rank states by the size of their weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final, get_args

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.checks import check_choice
from ssmith.core.layers import Modes
from ssmith.core.scores import Pool
from ssmith.criteria.common import ModeCriterion
from ssmith.criteria.energies import magnitude


@final
@dataclass(frozen=True, kw_only=True)
class Magnitude(ModeCriterion):
    """Size of a state's discretised input row and output row, ``m_i = ‖C_i‖·‖B̄_i‖``.

    Args:
        pool: ``"layer"`` removes the same share of every layer; ``"model"`` compares raw
            magnitudes of all layers and may empty a layer.
        weigh_by_radius: rank by ``|λ̄_i|·‖C_i‖·‖B̄_i‖`` instead.

    Source: LAST (arXiv 2411.02824), the baselines Uniform magnitude and Global magnitude.
    Differs: the paper's own magnitude formula is not confirmed; with two directions
        ``(‖C₁‖+‖C₂‖)/2`` stands for ``‖C‖``.
    """

    pool: Pool = "layer"
    weigh_by_radius: bool = False

    def __post_init__(self) -> None:
        check_choice("pool", self.pool, get_args(Pool))

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        base = "Uniform magnitude" if self.pool == "layer" else "Global magnitude"
        return f"{base} (by |λ̄|)" if self.weigh_by_radius else base

    def _measure(self, modes: Modes) -> Float64[Tensor, "s"]:
        return magnitude(modes, self.weigh_by_radius)
