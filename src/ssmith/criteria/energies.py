"""Raw importance of single modes: squared H∞ norm, H2 energy and magnitude, in both variants."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.checks import check_choice
from ssmith.core.errors import InputError
from ssmith.core.layers import Modes
from ssmith.criteria.common import ModeCriterion
from ssmith.criteria.prefix import Over
from ssmith.ops.norms import mode_h2_squared, mode_hinf, pair_h2_squared, row_norm
from ssmith.ops.suprema import pair_hinf

Variant = Literal["intended", "released"]
Norm = Literal["mode", "exact"]

RELEASED_EPSILON = 1e-8
"""Absolute constant that the released code of LAST and AIRE adds to its denominators."""


@dataclass(frozen=True, kw_only=True)
class EnergyCriterion(ModeCriterion):
    """A criterion by a norm of each mode, as the paper means it or as its code computes it."""

    variant: Variant = "intended"
    norm: Norm = "mode"

    def __post_init__(self) -> None:
        check_choice("variant", self.variant, get_args(Variant))
        check_choice("norm", self.norm, get_args(Norm))
        if self.variant == "released" and self.norm == "exact":
            raise InputError(
                "variant is 'released' and norm is 'exact'",
                allowed="norm='mode' with the released variant, which knows no exact norms",
            )

    @property
    @abstractmethod
    def base(self) -> str:
        """Name without what differs from the defaults."""

    @property
    def label(self) -> str:
        """Name for plots and tables, with what differs from the defaults."""
        extras = ["released"] * (self.variant == "released") + ["exact"] * (self.norm == "exact")
        return f"{self.base} ({', '.join(extras)})" if extras else self.base


@dataclass(frozen=True, kw_only=True)
class PrefixCriterion(EnergyCriterion):
    """The same, normalised by the energies at least as large."""

    normalise_over: Over = "layer"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("normalise_over", self.normalise_over, get_args(Over))


def hinf_energy(modes: Modes, variant: Variant, norm: Norm) -> Float64[Tensor, "s"]:
    """Squared H∞ norm of each mode.

    Mode, one direction: ``‖C‖²‖B̄‖²/(1−ρ)²``; two: ``((‖C₁‖+‖C₂‖)/2)²`` for ``‖C‖²``.
    Exact: the square of the supremum over frequency of the real mode, all directions together.
    Released: ``(‖C₁‖+‖C₂‖)/4`` for two directions, and ``(1−ρ)² + 1e-8`` below.

    Modes are stable.
    """
    if norm == "exact":
        peak = pair_hinf(modes.A_bar, modes.B_bar, modes.C, modes.C_back)
        return (_real_amplitude(modes) * peak) ** 2
    if variant == "released":
        return _released_numerator(modes) / ((1.0 - modes.rho) ** 2 + RELEASED_EPSILON)
    peak = mode_hinf(modes.A_bar, modes.B_bar, modes.C)
    if modes.C_back is not None:
        peak = 0.5 * (peak + mode_hinf(modes.A_bar, modes.B_bar, modes.C_back))
    return peak**2


def h2_energy(modes: Modes, variant: Variant, norm: Norm) -> Float64[Tensor, "s"]:
    """Squared H2 norm of each mode.

    Mode, one direction: ``‖C‖²‖B̄‖²/(1−ρ²)``; two: ``½(‖C₁‖²+‖C₂‖²)`` for ``‖C‖²``.
    Exact: the energy of the real impulse response, all directions together.
    Released: ``(‖C₁‖+‖C₂‖)/4`` for two directions, and ``1−ρ² + 1e-8`` below.

    Modes are stable.
    """
    if norm == "exact":
        energy = pair_h2_squared(modes.A_bar, modes.B_bar, modes.C, modes.C_back)
        return _real_amplitude(modes) ** 2 * energy
    if variant == "released":
        return _released_numerator(modes) / (1.0 - modes.rho**2 + RELEASED_EPSILON)
    energy = mode_h2_squared(modes.A_bar, modes.B_bar, modes.C)
    if modes.C_back is not None:
        energy = 0.5 * (energy + mode_h2_squared(modes.A_bar, modes.B_bar, modes.C_back))
    return energy


def magnitude(modes: Modes, weigh_by_radius: bool) -> Float64[Tensor, "s"]:
    """Magnitude of each mode, ``‖C‖·‖B̄‖``, times ``|λ̄|`` if asked."""
    read_out = row_norm(modes.C)
    if modes.C_back is not None:
        read_out = 0.5 * (read_out + row_norm(modes.C_back))
    size = read_out * row_norm(modes.B_bar)
    return size * modes.rho if weigh_by_radius else size


def _real_amplitude(modes: Modes) -> float:
    """Return what turns the norm of ``2·Re`` into that of the layer's own output."""
    return 1.0 if modes.conjugate else 0.5


def _released_numerator(modes: Modes) -> Float64[Tensor, "s"]:
    """Return the numerator as released: of degree one in C where there are two directions."""
    read_out = row_norm(modes.C) ** 2
    if modes.C_back is not None:
        read_out = (row_norm(modes.C) + row_norm(modes.C_back)) / 4.0
    return read_out * row_norm(modes.B_bar) ** 2
