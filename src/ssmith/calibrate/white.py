"""Moments under white noise, in closed form: the controllability Gramian of a layer."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from ssmith.core.errors import NumericalError
from ssmith.core.gramian import complex_rows, controllability, observability, real_rows
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout
from ssmith.core.moments import Moments
from ssmith.core.regression import solve_kept


def white_moments(modes: Modes) -> Moments:
    """Return a layer's moments for white noise of unit variance on every input channel.

    ``E[x_i x_j*] = B̄_i B̄_jᴴ/(1 − λ̄_i λ̄_j*)``, ``E[x_i x_j] = B̄_i B̄_jᵀ/(1 − λ̄_i λ̄_j)``, and between
    the two directions of time only the present counts: ``B̄_i B̄_jᴴ`` and ``B̄_i B̄_jᵀ``.
    """
    if bool((modes.is_unstable() & modes.present).any()):
        raise NumericalError(
            f"layer {modes.layer} has states with |λ̄| ≥ 1, whose energy under white noise is "
            "infinite",
            next_step="calibrate on sequences instead",
        )
    layout = Layout.of(modes)
    B = modes.B_bar * modes.present.to(torch.float64).unsqueeze(-1)
    gram = controllability(layout, modes)
    # White noise meets itself only in the latest input: E[x u] = B̄.
    direct = layout.features(B.mT, B.mT if layout.directions == 2 else None).mT
    g, i = direct.shape[0], direct.shape[2]
    o = modes.C.shape[1]
    return Moments(
        layer=modes.layer,
        source="white",
        steps=0,
        gram=gram,
        error=torch.zeros(g, gram.shape[1], o, dtype=torch.float64),
        error_energy=torch.zeros(g, o, dtype=torch.float64),
        input=direct,
        input_energy=torch.ones(g, i, dtype=torch.float64),
        input_error=torch.zeros(g, i, dtype=torch.float64),
    )


def white_moments_towards(modes: Modes, dense: Modes, change: Float64[Tensor, "m"]) -> Moments:
    """Return white moments of a layer whose output should be another one's.

    ``change`` was added to D already; modes that are switched off count as zero.
    """
    own, other = white_moments(modes), white_moments(dense)
    layout = Layout.of(dense)
    D = layout.signals(change.unsqueeze(0)).squeeze(1)
    across = controllability(layout, modes, dense)
    W, W_dense = layout.weight(*_reads(modes)), layout.weight(*_reads(dense))
    reached = across @ W_dense - own.gram @ W
    direct = (other.input * W_dense).sum(1) - (own.input * W).sum(1)
    # ‖y' − y‖² = y'² − y (y' + (y' − y))
    energy = (W_dense * (other.gram @ W_dense)).sum(1) - (W * (across @ W_dense + reached)).sum(1)
    return replace(
        own,
        error=reached - own.input * D.unsqueeze(1),
        error_energy=energy + D * D - 2 * D * direct,
        input_error=direct - D,
    )


def white_inputs(
    modes: Modes, dense: Modes, change: Float64[Tensor, "m"], ridge: float
) -> Complex128[Tensor, "s i"]:
    """Return the input rows that bring a MIMO layer closest to another one under white noise.

    ``B = Q⁻¹ Q' B'`` with Q the observability Gramian of the layer and Q' that between both.

    Source: the dual of the fixed-pole H2-optimal read-out (e.g. Gugercin, Antoulas, Beattie 2008).
    Differs: both directions of time, and D's change, are part of the error.
    """
    layout = Layout.of(dense)
    Q, across = observability(layout, modes), observability(layout, modes, dense)
    on = modes.present.to(torch.float64).unsqueeze(-1)
    rows = real_rows(layout.place(modes.B_bar * on))
    right = across @ real_rows(layout.place(dense.B_bar)) - Q @ rows
    right = right - _read_now(layout, modes) * change
    energy = Q.diagonal(dim1=-2, dim2=-1).clamp(min=0)
    scale = torch.where(energy > 0, energy.sqrt(), 1.0)
    kept = layout.place(modes.present).repeat_interleave(2, dim=-1) & (energy > 0)
    Q = Q / (scale.unsqueeze(-1) * scale.unsqueeze(-2))
    Q = Q + ridge * torch.eye(Q.shape[-1], dtype=Q.dtype)
    step = solve_kept(Q, right / scale.unsqueeze(-1), kept) / scale.unsqueeze(-1)
    return layout.flat(complex_rows(rows + step))


def _reads(modes: Modes) -> tuple[Tensor, Tensor | None]:
    on = modes.present.to(torch.float64).unsqueeze(-1)
    return modes.C * on, None if modes.C_back is None else modes.C_back * on


def _read_now(layout: Layout, modes: Modes) -> Float64[Tensor, "g d o"]:
    """Return what real input rows give the output at lag 0, all directions together."""
    weight = layout.weight(*_reads(modes))
    g, n = layout.slots.shape
    return weight.reshape(g, n, layout.directions, 2, -1).sum(2).reshape(g, 2 * n, -1)
