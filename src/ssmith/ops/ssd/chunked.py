"""Mamba-2's scan by matrix products: dense inside a chunk, a recurrence between chunks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ssmith.core.errors import InputError
from ssmith.ops.ssd.inputs import SSDInputs

CHUNK = 64


def ssd_chunked(
    inputs: SSDInputs, *, chunk: int = CHUNK
) -> tuple[Float[Tensor, "b l h p"], Float[Tensor, "b h p n"]]:
    """Compute what `ssd_reference` does, with the matrix products of the dual form.

    Memory grows with l·chunk.

    Source: Mamba-2 (arXiv 2405.21060), section 6.
    Differs: decays are differences of float64 sums, exact to rounding at any chunk size.
    """
    inputs.check()
    if chunk < 1:
        raise InputError(f"chunk is {chunk}", allowed="an integer ≥ 1")
    b, length, h, p = inputs.x.shape
    if length == 0:
        return torch.zeros_like(inputs.x), inputs.start()
    g = inputs.B.shape[2]
    q = h // g
    chunk = min(chunk, length)
    dt = inputs.step_sizes()
    # (b c g q t p), (b c g q t), (b c g t n): positions of a chunk stand where matrices need them.
    du = _chunks(inputs.x * dt[..., None], chunk, (g, q)).permute(0, 1, 3, 4, 2, 5)
    logs = _chunks((dt * inputs.A).double(), chunk, (g, q)).permute(0, 1, 3, 4, 2)
    B = _chunks(inputs.B, chunk, (g,)).transpose(2, 3)
    C = _chunks(inputs.C, chunk, (g,)).transpose(2, 3)
    sums = logs.cumsum(-1)
    dtype = inputs.x.dtype

    decay = (sums[..., :, None] - sums[..., None, :]).to(dtype)
    later = torch.ones(chunk, chunk, dtype=torch.bool, device=du.device).triu(1)
    decay = decay.masked_fill(later, -torch.inf).exp()
    y = ((C @ B.mT)[:, :, :, None] * decay) @ du

    to_end = (sums[..., -1:] - sums).to(dtype).exp()
    gained = (du * to_end[..., None]).mT @ B[:, :, :, None]
    before, h_last = _between_chunks(gained, sums[..., -1].to(dtype).exp(), inputs.start())
    from_start = sums.to(dtype).exp()
    y = y + (C[:, :, :, None] @ before.mT) * from_start[..., None]

    y = y.permute(0, 1, 4, 2, 3, 5).reshape(b, -1, h, p)[:, :length]
    if inputs.h_offset is not None:
        offset = inputs.h_offset.reshape(g, q, p, -1)
        y = y + torch.einsum("blgn,gqpn->blgqp", inputs.C, offset).flatten(2, 3)
    return (y if inputs.D is None else y + inputs.D[:, None] * inputs.x), h_last


def _chunks(tensor: Tensor, chunk: int, heads: tuple[int, ...]) -> Tensor:
    """Split time into (chunks, chunk), padded with zeros (Δ = 0), and heads into ``heads``."""
    missing = -tensor.shape[1] % chunk
    padded = functional.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, missing))
    return padded.reshape(tensor.shape[0], -1, chunk, *heads, *tensor.shape[3:])


def _between_chunks(
    gained: Float[Tensor, "b c g q p n"], kept: Float[Tensor, "b c g q"], h0: Tensor
) -> tuple[Float[Tensor, "b c g q p n"], Float[Tensor, "b h p n"]]:
    """Return the state before each chunk and after the last."""
    h = h0.reshape(-1, *gained.shape[2:])
    before = []
    for gained_c, kept_c in zip(gained.unbind(1), kept.unbind(1), strict=True):
        before.append(h)
        h = kept_c[..., None, None] * h + gained_c
    return torch.stack(before, dim=1), h.flatten(1, 2)
