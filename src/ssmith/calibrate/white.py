"""Moments under white noise, in closed form: the controllability Gramian of a layer."""

from __future__ import annotations

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from ssmith.core.errors import NumericalError
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout, real_gram
from ssmith.core.moments import Moments


def white_moments(modes: Modes) -> Moments:
    """Return a layer's moments for white noise of unit variance on every input channel.

    ``E[x_i x_j*] = B̄_i B̄_jᴴ/(1 − λ̄_i λ̄_j*)``, ``E[x_i x_j] = B̄_i B̄_jᵀ/(1 − λ̄_i λ̄_j)``, and between
    the two directions of time only the present counts: ``B̄_i B̄_jᴴ`` and ``B̄_i B̄_jᵀ``.

    Args:
        modes: a stable layer; modes that are switched off count as zero.

    Returns:
        The layer's moments.

    Raises:
        NumericalError: if a present mode has |λ̄| ≥ 1: its moments are infinite.
    """
    if bool((modes.is_unstable() & modes.present).any()):
        raise NumericalError(
            f"layer {modes.layer} has states with |λ̄| ≥ 1, whose energy under white noise is "
            "infinite",
            next_step="calibrate on sequences instead",
        )
    layout = Layout.of(modes)
    on = modes.present.to(torch.float64)
    B = modes.B_bar * on.unsqueeze(-1)
    rows, poles = layout.place(B), layout.place(modes.A_bar * on)
    gram = _real_gram(rows, poles, layout.directions)
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


def _real_gram(
    B: Complex128[Tensor, "g n i"], A: Complex128[Tensor, "g n"], directions: int
) -> Float64[Tensor, "g f f"]:
    """Return E[z zᵀ] from the covariance E[x xᴴ] and the pseudo-covariance E[x xᵀ]."""
    now = {"hermitian": B @ B.mH, "plain": B @ B.mT}
    decay = {
        "hermitian": 1 - A.unsqueeze(-1) * A.conj().unsqueeze(-2),
        "plain": 1 - A.unsqueeze(-1) * A.unsqueeze(-2),
    }
    covariance, pseudo = (
        _both_directions(now[kind] / decay[kind], now[kind], directions) for kind in now
    )
    return real_gram(covariance, pseudo)


def _both_directions(
    same: Complex128[Tensor, "g n n"], across: Complex128[Tensor, "g n n"], directions: int
) -> Complex128[Tensor, "g nd nd"]:
    """Lay states of both directions side by side: (front, back) of each state are neighbours."""
    if directions == 1:
        return same
    rows = torch.stack(
        [torch.stack([same, across], dim=-1), torch.stack([across, same], dim=-1)], dim=-2
    )
    g, n = same.shape[:2]
    return rows.permute(0, 1, 3, 2, 4).reshape(g, 2 * n, 2 * n)
