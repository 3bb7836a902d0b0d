"""Uniform H∞ and Global H∞: rank states by their raw H∞ norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final, get_args

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.checks import check_choice
from ssmith.core.layers import Modes
from ssmith.core.scores import Pool
from ssmith.criteria.energies import EnergyCriterion, hinf_energy


@final
@dataclass(frozen=True, kw_only=True)
class Hinf(EnergyCriterion):
    """Squared H∞ norm without normalisation, ``s_i = ‖C_i‖²‖B̄_i‖²/(1−ρ_i)²``.

    Args:
        pool: ``"layer"`` (Uniform H∞) removes the same share of every layer; ``"model"``
            (Global H∞) compares raw norms of all layers and may empty a layer.
        variant: see `LAST`.
        norm: see `LAST`.

    Raises:
        InputError: if a setting is not one of these, or "released" meets "exact".

    Source: LAST (arXiv 2411.02824), the baselines Uniform H∞ and Global H∞.
    Differs: as `LAST`.
    """

    pool: Pool = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("pool", self.pool, get_args(Pool))

    @property
    def base(self) -> str:
        """Name without what differs from the defaults."""
        return "Uniform H∞" if self.pool == "layer" else "Global H∞"

    def _measure(self, modes: Modes) -> Float64[Tensor, "s"]:
        return hinf_energy(modes, self.variant, self.norm)
