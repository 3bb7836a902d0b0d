"""The selective scan in plain torch, linear in time and memory forward and backward."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.ops.once import once
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.reference import read_out, step_sizes

CHUNK = 32


def selective_scan_chunked(
    inputs: ScanInputs,
) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b e n"]]:
    """Run the selective scan of `selective_scan_reference` a chunk of steps at a time.

    States are kept at chunk boundaries only; the backward recomputes the rest.
    """
    inputs.check()
    h0 = inputs.h0
    if h0 is None:
        h0 = inputs.x.new_zeros(inputs.x.shape[0], *inputs.A.shape)
    core = (inputs.x, step_sizes(inputs), inputs.A, inputs.B, inputs.C, h0)
    y, h_last = _Core.apply(*core)  # type: ignore[no-untyped-call]
    return read_out(inputs, y), h_last


def chunk_states(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, h: Tensor
) -> tuple[Float[Tensor, "l b e n"], Float[Tensor, "l b e n"]]:
    """Return Ā and h at every step of one chunk, time first."""
    A_bar = torch.exp(dt.transpose(0, 1)[..., None] * A)
    states = (dt * x).transpose(0, 1)[..., None] * B.transpose(0, 1)[:, :, None, :]
    for A_bar_t, state in zip(A_bar.unbind(0), states.unbind(0), strict=True):
        h = state.addcmul_(A_bar_t, h)
    return A_bar, states


class _Core(torch.autograd.Function):
    """``h ← exp(Δ·A)·h + Δ·B·x``, ``y = C·h``."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        x, dt, A, B, C, h0 = tensors
        h = h0
        boundaries, outputs = [], []
        for start in range(0, x.shape[1], CHUNK):
            part = slice(start, start + CHUNK)
            boundaries.append(h)
            _, states = chunk_states(x[:, part], dt[:, part], A, B[:, part], h)
            outputs.append(torch.einsum("lben,bln->ble", states, C[:, part]))
            h = states[-1].clone()
        ctx.save_for_backward(x, dt, A, B, C, *boundaries)
        y = torch.cat(outputs, dim=1) if outputs else torch.zeros_like(x)
        return y, h.clone() if h is h0 else h

    @staticmethod
    @once("the selective scan")
    def backward(ctx: Any, dy: Tensor, dh_last: Tensor) -> tuple[Tensor, ...]:
        x, dt, A, B, C, *boundaries = ctx.saved_tensors
        dA = torch.zeros_like(A)
        dx, ddt = torch.empty_like(x), torch.empty_like(dt)
        dB, dC = torch.empty_like(B), torch.empty_like(C)
        carry = dh_last
        for number in reversed(range(len(boundaries))):
            part = slice(number * CHUNK, (number + 1) * CHUNK)
            chunk = (x[:, part], dt[:, part], A, B[:, part])
            A_bar, states = chunk_states(*chunk, boundaries[number])
            dC[:, part] = torch.einsum("ble,lben->bln", dy[:, part], states)
            grads, carry = _adjoint_states(A_bar, dy[:, part], C[:, part], carry)
            before = torch.cat([boundaries[number][None], states[:-1]])
            into = grads * A_bar * before
            du = torch.einsum("lben,bln->ble", grads, B[:, part])
            dB[:, part] = torch.einsum("lben,ble->bln", grads, chunk[0] * chunk[1])
            dA += torch.einsum("lben,ble->en", into, chunk[1])
            ddt[:, part] = torch.einsum("lben,en->ble", into, A) + du * chunk[0]
            dx[:, part] = du * chunk[1]
        return dx, ddt, dA, dB, dC, carry


def _adjoint_states(
    A_bar: Tensor, dy: Tensor, C: Tensor, carry: Tensor
) -> tuple[Float[Tensor, "l b e n"], Float[Tensor, "b e n"]]:
    """Return the gradient of every state of a chunk, and of the state before it."""
    grads = dy.transpose(0, 1)[..., None] * C.transpose(0, 1)[:, :, None, :]
    steps = list(zip(A_bar.unbind(0), grads.unbind(0), strict=True))
    for A_bar_t, grad in reversed(steps):
        carry = A_bar_t * grad.add_(carry)
    return grads, carry
