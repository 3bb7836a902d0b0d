"""LAST: layer-adaptive state pruning by H∞ norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.layers import Modes
from ssmith.criteria.energies import PrefixCriterion, hinf_energy
from ssmith.criteria.prefix import normalise


@final
@dataclass(frozen=True, kw_only=True)
class LAST(PrefixCriterion):
    """Prefix-normalised squared H∞ norm under one global threshold.

    ``s_i = ‖C_i‖²‖B̄_i‖²/(1−ρ_i)²``, then ``LAST_(k) = s_(k)/Σ_{j≤k} s_(j)`` in descending order
    within the layer. The best state of every layer that passes a signal scores 1.

    Args:
        variant: ``"intended"`` takes ``((‖C₁‖+‖C₂‖)/2)²`` for two directions, float64 and no
            additive constant. ``"released"`` reproduces the masks of the released code: it
            takes ``(‖C₁‖+‖C₂‖)/4`` (an operator slip) and adds 1e-8 to ``(1−ρ)²``.
        norm: ``"mode"`` ranks one complex mode, as the paper does; ``"exact"`` ranks the real
            mode that the layer really computes, two directions included.
        normalise_over: ``"layer"``, or ``"channel"`` for layers of independent channels (S4D),
            where every channel then keeps its best state.

    Raises:
        InputError: if a setting is not one of these, or "released" meets "exact".

    Source: LAST (arXiv 2411.02824), score and layer-adaptive normalisation.
    Differs: unstable modes are kept and reported, where the released code scores them as if they
        were stable; equal scores are ranked by index; nothing is computed in float32.
    """

    base: ClassVar[str] = "LAST"

    def _measure(self, modes: Modes) -> Float64[Tensor, "s"]:
        energy = hinf_energy(modes, self.variant, self.norm)
        return normalise(modes, energy, self.normalise_over)
