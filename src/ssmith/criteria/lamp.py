"""LAMP over states: layer-adaptive magnitudes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final, get_args

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.checks import check_choice
from ssmith.core.layers import Modes
from ssmith.criteria.common import ModeCriterion
from ssmith.criteria.energies import magnitude
from ssmith.criteria.prefix import Over, normalise


@final
@dataclass(frozen=True, kw_only=True)
class LAMP(ModeCriterion):
    """Prefix-normalised squared magnitude under one global threshold.

    ``m_(k)²/Σ_{j≤k} m_(j)²`` in descending order within the layer, ``m_i = ‖C_i‖·‖B̄_i‖``.

    Args:
        weigh_by_radius: use ``|λ̄_i|·‖C_i‖·‖B̄_i‖`` instead.
        normalise_over: ``"layer"``, or ``"channel"`` for layers of independent channels (S4D).

    Source: LAMP (arXiv 2010.07611), layer-adaptive magnitude score, as a baseline in LAST.
    Differs: whole states in place of single weights; see `Magnitude` for the formula.
    """

    weigh_by_radius: bool = False
    normalise_over: Over = "layer"

    def __post_init__(self) -> None:
        check_choice("normalise_over", self.normalise_over, get_args(Over))

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        return "LAMP (by |λ̄|)" if self.weigh_by_radius else "LAMP"

    def _measure(self, modes: Modes) -> Float64[Tensor, "s"]:
        return normalise(modes, magnitude(modes, self.weigh_by_radius) ** 2, self.normalise_over)
