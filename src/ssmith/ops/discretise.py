"""Continuous to discrete time for diagonal systems."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ssmith.core.errors import InputError

Discretisation = Literal["zoh", "bilinear"]


def complex_expm1(z: Complex[Tensor, "..."]) -> Complex[Tensor, "..."]:
    """Return ``exp(z) − 1`` without the cancellation near zero."""
    half_sine = torch.sin(z.imag / 2)
    real = torch.expm1(z.real) * torch.cos(z.imag) - 2 * half_sine * half_sine
    return torch.complex(real, torch.exp(z.real) * torch.sin(z.imag))


def phi1(z: Complex[Tensor, "..."]) -> Complex[Tensor, "..."]:
    """Return ``(exp(z) − 1)/z``, with its limit 1 at zero."""
    at_zero = z == 0
    safe = torch.where(at_zero, torch.ones_like(z), z)
    return torch.where(at_zero, torch.ones_like(z), complex_expm1(safe) / safe)


def discretise(
    A: Complex[Tensor, "s"], dt: Float[Tensor, "*w s"], method: Discretisation
) -> tuple[Complex[Tensor, "*w s"], Complex[Tensor, "*w s"]]:
    """Discretise ``x' = A x + B u`` for diagonal A.

    Zero-order hold: ``A_bar = exp(AΔ)``, ``B_bar = (A_bar − 1)/A · B``.
    Bilinear: ``A_bar = (1 + AΔ/2)/(1 − AΔ/2)``, ``B_bar = Δ/(1 − AΔ/2) · B``.

    Returned are ``A_bar`` and the factor that turns rows of ``B`` into rows of ``B_bar``.

    Source: S5 (arXiv 2208.04933), released code, ``discretize_zoh`` and ``discretize_bilinear``.
    Differs: zero-order hold is exact as A → 0, where the released form is 0/0.
    """
    z = A * dt
    if method == "zoh":
        return torch.exp(z), dt * phi1(z)
    if method == "bilinear":
        gain = 1.0 / (1.0 - z / 2)
        return gain * (1.0 + z / 2), gain * dt
    raise InputError(f"discretisation {method!r}", allowed="'zoh' or 'bilinear'")


def undiscretise(
    A_bar: Complex[Tensor, "s"], dt: Float[Tensor, "s"], method: Discretisation
) -> Complex[Tensor, "s"]:
    """Return the continuous eigenvalues that `discretise` turns into ``A_bar``.

    Zero-order hold: ``log(A_bar)/Δ``, the principal branch. Bilinear:
    ``2/Δ · (A_bar − 1)/(A_bar + 1)``.

    Source: the inverse of `discretise`.
    Differs: it is not in the released code of S5.
    """
    if method == "zoh":
        return torch.log(A_bar) / dt
    if method == "bilinear":
        return 2.0 / dt * (A_bar - 1.0) / (A_bar + 1.0)
    raise InputError(f"discretisation {method!r}", allowed="'zoh' or 'bilinear'")
