"""Gramians of diagonal layers, in closed form: energies of their real features under white noise.

With real features ``z = (Re x, Im x)`` of every state, in both directions of time where there are
two, the controllability Gramian is E[z zᵀ] for white input, and the observability Gramian weighs an
error in the input rows by the energy it gives the output.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from ssmith.core.layers import Modes
from ssmith.core.layout import Layout, real_gram


def controllability(
    layout: Layout,
    modes: Modes,
    other: Modes | None = None,
    other_layout: Layout | None = None,
) -> Float64[Tensor, "g f j"]:
    """Return E[z zᵀ] for white noise of unit variance; modes that are switched off count as zero.

    With another layer, driven by the same noise and of the same groups, it is E[z z'ᵀ].

    Source: ``P = A P Aᴴ + B Bᴴ`` for diagonal A.
    Differs: between the two directions only lag 0 counts.
    """
    A, B = _placed(layout, modes)
    A_j, B_j = (A, B) if other is None else _placed(other_layout or layout, other)
    now = {"hermitian": B @ B_j.mH, "plain": B @ B_j.mT}
    decay = {"hermitian": _decay(A, A_j.conj()), "plain": _decay(A, A_j)}
    covariance, pseudo = (
        _both_directions(now[kind] / decay[kind], now[kind], layout.directions) for kind in now
    )
    return real_gram(covariance, pseudo)


def observability(
    layout: Layout, modes: Modes, other: Modes | None = None
) -> Float64[Tensor, "g d d"]:
    """Return the energy of the output's impulse response per product of real input rows.

    Over ``(Re, Im)`` of every state: input rows R add ``tr(Rᵀ Q R)`` to the energy. With another
    layer of the same layout it is the product of both responses.

    Source: ``Q = Aᴴ Q A + Cᴴ C`` for diagonal A.
    Differs: the two directions of a bidirectional layer share lag 0, whose read-outs add up.
    """
    (A, _), C = _placed(layout, modes), _reads(layout, modes)
    (A_j, _), C_j = (
        ((A, None), C) if other is None else (_placed(layout, other), _reads(layout, other))
    )
    hermitian = sum(c.conj() @ d.mT for c, d in zip(C, C_j, strict=True)) / _decay(A.conj(), A_j)
    plain = sum(c @ d.mT for c, d in zip(C, C_j, strict=True)) / _decay(A, A_j)
    if len(C) == 2:
        hermitian = hermitian + C[0].conj() @ C_j[1].mT + C[1].conj() @ C_j[0].mT
        plain = plain + C[0] @ C_j[1].mT + C[1] @ C_j[0].mT
    # ½ Re(xᴴ H x' + xᵀ S x') with x = a + ib
    return real_gram(hermitian, plain.conj())


def real_rows(rows: Complex128[Tensor, "... n i"]) -> Float64[Tensor, "... d i"]:
    """Return input rows as ``(Re, Im)`` of every state."""
    return torch.view_as_real(rows.resolve_conj()).movedim(-1, -2).flatten(-3, -2)


def complex_rows(rows: Float64[Tensor, "... d i"]) -> Complex128[Tensor, "... n i"]:
    """Return input rows of complex states; the inverse of `real_rows`."""
    pairs = rows.unflatten(-2, (-1, 2))
    return torch.complex(pairs[..., 0, :], pairs[..., 1, :])


def _placed(
    layout: Layout, modes: Modes
) -> tuple[Complex128[Tensor, "g n"], Complex128[Tensor, "g n i"]]:
    on = modes.present.to(torch.float64)
    return layout.place(modes.A_bar * on), layout.place(modes.B_bar * on.unsqueeze(-1))


def _reads(layout: Layout, modes: Modes) -> list[Complex128[Tensor, "g n o"]]:
    on = modes.present.to(torch.float64).unsqueeze(-1)
    both = [item for item in (modes.C, modes.C_back) if item is not None]
    return [layout.factor * layout.place(item * on) for item in both]


def _decay(
    first: Complex128[Tensor, "g n"], second: Complex128[Tensor, "g k"]
) -> Complex128[Tensor, "g n k"]:
    return 1 - first.unsqueeze(-1) * second.unsqueeze(-2)


def _both_directions(
    same: Complex128[Tensor, "g n k"], across: Complex128[Tensor, "g n k"], directions: int
) -> Complex128[Tensor, "g nd kd"]:
    """Lay states of both directions side by side: (front, back) of each state are neighbours."""
    if directions == 1:
        return same
    rows = torch.stack(
        [torch.stack([same, across], dim=-1), torch.stack([across, same], dim=-1)], dim=-2
    )
    return rows.permute(0, 1, 3, 2, 4).flatten(3, 4).flatten(1, 2)
