"""Uniform H∞ and Global H∞: rank states by their raw H∞ norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.layers import Modes
from ssmith.core.scores import Pool, Scores
from ssmith.criteria.common import check_choice, score_modes
from ssmith.criteria.energies import Norm, Variant, check_energy_settings, hinf_energy, label_of


@final
@dataclass(frozen=True, kw_only=True)
class Hinf:
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

    needs: ClassVar[tuple[str, ...]] = ()

    pool: Pool = "layer"
    variant: Variant = "intended"
    norm: Norm = "mode"

    def __post_init__(self) -> None:
        check_choice("pool", self.pool, Pool)
        check_energy_settings(self.variant, self.norm)

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        base = "Uniform H∞" if self.pool == "layer" else "Global H∞"
        return label_of(base, self.variant, self.norm)

    def __call__(
        self, layers: Sequence[Modes], stats: Mapping[str, object] | None = None
    ) -> Scores:
        """Score every mode; no statistics are read."""
        return score_modes(self, layers, self._measure, self.pool)

    def _measure(self, modes: Modes) -> Float64[Tensor, "s"]:
        return hinf_energy(modes, self.variant, self.norm)
