"""AIRE-Prune: layer-adaptive state pruning by impulse-response energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.layers import Modes
from ssmith.criteria.energies import RELEASED_EPSILON, PrefixCriterion, h2_energy
from ssmith.criteria.prefix import normalise


@final
@dataclass(frozen=True, kw_only=True)
class AIRE(PrefixCriterion):
    """Prefix-normalised squared H2 norm under one global threshold.

    ``E_i = ‖C_i‖²‖B̄_i‖²/(1−ρ_i²)``, then ``E_(k)/Σ_{j≤k} E_(j)`` in descending order within the
    layer. Compared with `LAST` it values slow states less.

    Args:
        variant: ``"intended"`` takes ``½(‖C₁‖²+‖C₂‖²)`` for two directions, float64 and no
            additive constants. ``"released"`` reproduces the released code: it takes
            ``(‖C₁‖+‖C₂‖)/4`` (an operator slip) and adds 1e-8 to both denominators.
        norm: ``"mode"`` ranks one complex mode, as the paper does; ``"exact"`` ranks the energy
            of the real impulse response, two directions included.
        normalise_over: ``"layer"``, or ``"channel"`` for layers of independent channels (S4D).

    Raises:
        InputError: if a setting is not one of these, or "released" meets "exact".

    Source: AIRE-Prune (arXiv 2602.00534), energy score and prefix normalisation.
    Differs: unstable modes are kept and reported; equal scores are ranked by index; "intended"
        is the form that the released code carries but does not run.
    """

    base: ClassVar[str] = "AIRE"

    def _measure(self, modes: Modes) -> Float64[Tensor, "s"]:
        energy = h2_energy(modes, self.variant, self.norm)
        epsilon = RELEASED_EPSILON if self.variant == "released" else 0.0
        return normalise(modes, energy, self.normalise_over, epsilon)
