"""Refit input rows on sequences: least squares whose normal equations are scans there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Complex128, Float, Float64
from torch import Tensor

from ssmith.calibrate.record import Recording, respond
from ssmith.calibrate.sums import complex_product, varied
from ssmith.core.gramian import complex_rows
from ssmith.core.layers import Modes
from ssmith.ops.diagonal import diagonal_scan, varied_scan

STEPS = 12
"""Conjugate gradient steps; each lowers the error, and few of them are most of the gain."""

SETTLED = 1e-18
"""Share of the first squared gradient at which the least squares problem is solved."""


@torch.no_grad()
def fit_inputs(
    modes: Modes, D: Float64[Tensor, "m"], recordings: Sequence[Recording], *, steps: int = STEPS
) -> Complex128[Tensor, "s i"]:
    """Return input rows with which the states come closer to the output wanted of them.

    The output is linear in B: one pass over the sequences applies that map, ``y = f·Re(C x)`` with
    ``x_t = A_bar x_{t−1} + B u_t``, and one, backwards in time, its adjoint ``Σ_t x̂_t u_tᴴ``,
    ``x̂_t = A_bar* x̂_{t+1} + f·Cᴴ e_t``. Conjugate gradients from the rows there are solve the
    least squares problem without ever forming its matrix. The error on these sequences is no larger
    than before.

    Source: conjugate gradients on the normal equations (Hestenes and Stiefel, 1952).
    Differs: preconditioned by the energy each row's states would have under white noise.
    """
    B, recordings = modes.B_bar.clone(), [item.double() for item in recordings]
    scale = _preconditioner(modes, recordings)
    residual = [item.residual(modes, D) for item in recordings]
    gradient = scale * _adjoint(modes, recordings, residual)
    direction, power = gradient, _norm(gradient)
    # Beyond this the gradient is rounding, and steps along it lead anywhere.
    least = SETTLED * power
    for _ in range(steps):
        moved = replace(modes, B_bar=scale * direction)
        change = [
            respond(moved, item.u, item.widths) * item.valid.unsqueeze(-1) for item in recordings
        ]
        curvature = float(sum((item * item).sum() for item in change))
        if not power > least or not curvature > 0:
            break
        step = power / curvature
        B = B + step * scale * direction
        residual = [item - step * other for item, other in zip(residual, change, strict=True)]
        gradient = scale * _adjoint(modes, recordings, residual)
        direction = gradient + _norm(gradient) / power * direction
        power = _norm(gradient)
    return B


def _adjoint(
    modes: Modes, recordings: Sequence[Recording], errors: list[Tensor]
) -> Complex128[Tensor, "s i"]:
    """Return the gradient of half the squared error with respect to B, negated."""
    A, C = modes.A_bar.conj().resolve_conj(), modes.C.conj().mT
    C_back = None if modes.C_back is None else modes.C_back.conj().mT
    total = torch.zeros(2 * modes.count, recordings[0].u.shape[-1], dtype=torch.float64)
    for item, e in zip(recordings, errors, strict=True):
        back = _returned(modes, A, complex_product(e, C), item.widths)
        if C_back is not None:
            back = back + diagonal_scan(A, complex_product(e, C_back))[0]
        total = total + torch.view_as_real(back).flatten(-2).flatten(0, 1).mT @ item.u.flatten(0, 1)
    factor = 2.0 if modes.conjugate else 1.0
    return complex_rows(factor * total) * modes.present.unsqueeze(-1)


def _returned(
    modes: Modes,
    A: Complex128[Tensor, "s"],
    errors: Complex128[Tensor, "b l s"],
    widths: Float[Tensor, "b l"] | None,
) -> Complex128[Tensor, "b l s"]:
    """Return what errors of the states say of what each step took in, backwards in time."""
    if widths is None:
        return diagonal_scan(A, errors, reverse=True)[0]
    A_bar, gain = (item.conj().resolve_conj() for item in varied(modes, widths))
    # What comes back to a step has decayed over the one after it.
    found = varied_scan(A_bar.flip(1).roll(1, 1), errors.flip(1)).flip(1)
    return gain * found


def _preconditioner(modes: Modes, recordings: Sequence[Recording]) -> Tensor:
    """Return the square root of the inverse curvature of each entry, if inputs were white."""
    read = (modes.C.abs() ** 2).sum(-1)
    if modes.C_back is not None:
        read = read + (modes.C_back.abs() ** 2).sum(-1)
    gain = read / (1.0 - modes.rho**2).clamp(min=1e-12)
    energy = torch.stack([(item.u**2).sum((0, 1)) for item in recordings]).sum(0)
    curvature = gain.unsqueeze(-1) * energy
    live = curvature > 0
    return torch.where(live, torch.where(live, curvature, 1.0).rsqrt(), 0.0)


def _norm(values: Tensor) -> float:
    return float((values.abs() ** 2).sum())
