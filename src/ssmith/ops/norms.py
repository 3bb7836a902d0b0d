"""System norms of single modes in closed form, float64."""

from __future__ import annotations

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from ssmith.core.errors import InputError


def mode_hinf(
    A_bar: Complex128[Tensor, "s"], B_bar: Complex128[Tensor, "s i"], C: Complex128[Tensor, "s o"]
) -> Float64[Tensor, "s"]:
    """H∞ norm of each complex mode, ``‖C_i‖·‖B̄_i‖ / (1 − ρ_i)``, attained at ω = arg λ̄_i.

    Source: LAST (arXiv 2411.02824), the rank-one case of the H∞ norm.
    Differs: float64 without an additive constant in the denominator.
    """
    rho = stable_radius(A_bar)
    return row_norm(C) * row_norm(B_bar) / (1.0 - rho)


def mode_h2_squared(
    A_bar: Complex128[Tensor, "s"], B_bar: Complex128[Tensor, "s i"], C: Complex128[Tensor, "s o"]
) -> Float64[Tensor, "s"]:
    """Squared H2 norm of each complex mode, ``‖C_i‖²·‖B̄_i‖² / (1 − ρ_i²)``.

    Source: AIRE-Prune (arXiv 2602.00534), impulse-response energy.
    Differs: float64 without an additive constant in the denominator.
    """
    rho = stable_radius(A_bar)
    return (row_norm(C) * row_norm(B_bar)) ** 2 / ((1.0 - rho) * (1.0 + rho))


def pair_h2_squared(
    A_bar: Complex128[Tensor, "s"],
    B_bar: Complex128[Tensor, "s i"],
    C: Complex128[Tensor, "s o"],
    C_back: Complex128[Tensor, "s o"] | None = None,
) -> Float64[Tensor, "s"]:
    """Squared H2 norm of each real mode ``2·Re(C λ̄^k B̄)``, exact.

    One direction: ``2[γ²β²/(1−ρ²) + Re((cᵀc)(b̄b̄ᵀ)/(1−λ̄²))]`` with plain transposes.
    Two directions: lag 0 is ``2·Re((c₁+c₂)b̄)`` once, lags ±k are ``2·Re(c λ̄^k b̄)``.

    Source: the sum of a geometric series, ‖2·Re X‖² = 2‖X‖² + 2·Re tr(XᵀX).
    Differs: LAST and AIRE drop the second term, which for one channel is as large as the first.
    """
    rho = stable_radius(A_bar)
    beta, plain_b = square_norm(B_bar), plain_product(B_bar, B_bar)
    rest, plain_rest = rho**2 / ((1 - rho) * (1 + rho)), A_bar**2 / ((1 - A_bar) * (1 + A_bar))
    lag_zero = C if C_back is None else C + C_back
    gamma, plain_c = square_norm(C), plain_product(C, C)
    if C_back is not None:
        gamma, plain_c = gamma + square_norm(C_back), plain_c + plain_product(C_back, C_back)
    first = beta * (square_norm(lag_zero) + gamma * rest)
    second = plain_b * (plain_product(lag_zero, lag_zero) + plain_c * plain_rest)
    # Rounding may leave a mode that cancels itself a hair below zero.
    return (2.0 * (first + second.real)).clamp_min(0.0)


def stable_radius(A_bar: Complex128[Tensor, "s"]) -> Float64[Tensor, "s"]:
    """Return |λ̄| of strictly stable modes."""
    rho = A_bar.abs()
    unstable = int((~(rho < 1.0)).sum())
    if unstable:
        raise InputError(
            f"{unstable} of {rho.numel()} modes have |λ̄| ≥ 1 or a NaN, so their norm is infinite",
            allowed="modes with |λ̄| < 1",
            next_step="leave unstable modes out and rank the rest",
        )
    return rho


def square(z: Complex128[Tensor, "..."]) -> Float64[Tensor, "..."]:
    """Return |z|² without a square root."""
    return z.real**2 + z.imag**2


def row_norm(rows: Complex128[Tensor, "s x"]) -> Float64[Tensor, "s"]:
    """Return the Euclidean norm of each row."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms


def square_norm(rows: Complex128[Tensor, "s x"]) -> Float64[Tensor, "s"]:
    """Return the squared Euclidean norm of each row."""
    return square(rows).sum(dim=1)


def plain_product(
    left: Complex128[Tensor, "s x"], right: Complex128[Tensor, "s x"]
) -> Complex128[Tensor, "s"]:
    """Return ``Σ left·right`` per row, without conjugation."""
    return (left * right).sum(dim=1)
