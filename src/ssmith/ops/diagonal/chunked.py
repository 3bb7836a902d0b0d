"""The diagonal scan in two levels: √l steps inside all chunks at once, then √l carries."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Complex
from torch import Tensor

from ssmith.ops.once import once


def diagonal_scan(
    A_bar: Complex[Tensor, "s"],
    Bu: Complex[Tensor, "b l s"],
    x0: Complex[Tensor, "b s"] | None = None,
    *,
    reverse: bool = False,
) -> tuple[Complex[Tensor, "b l s"], Complex[Tensor, "b s"]]:
    """Compute what `reference.diagonal_scan` does; time and memory are linear in length."""
    start = Bu.new_zeros(Bu.shape[0], Bu.shape[2]) if x0 is None else x0
    if Bu.shape[1] == 0:
        return Bu, start
    states: Tensor = _Scan.apply(A_bar, Bu, start, reverse)  # type: ignore[no-untyped-call]
    return states, states[:, 0] if reverse else states[:, -1]


class _Scan(torch.autograd.Function):
    """Keeps the states for its backward, which is the same scan run the other way."""

    @staticmethod
    def forward(ctx: Any, A_bar: Tensor, Bu: Tensor, x0: Tensor, reverse: bool) -> Tensor:
        states = _scan(A_bar, Bu, x0, reverse)
        ctx.save_for_backward(A_bar, states, x0)
        ctx.reverse = reverse
        return states

    @staticmethod
    @once("the diagonal scan")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        A_bar, states, x0 = ctx.saved_tensors
        reverse: bool = ctx.reverse
        decay = A_bar.conj().resolve_conj()
        adjoint = _scan(decay, grad, torch.zeros_like(x0), not reverse)
        before = x0.unsqueeze(1)
        if reverse:
            previous = torch.cat([states[:, 1:], before], dim=1)
            grad_x0 = decay * adjoint[:, -1]
        else:
            previous = torch.cat([before, states[:, :-1]], dim=1)
            grad_x0 = decay * adjoint[:, 0]
        grad_A = (adjoint * previous.conj()).sum(dim=(0, 1))
        return grad_A, adjoint, grad_x0, None


def _scan(A_bar: Tensor, Bu: Tensor, x0: Tensor, reverse: bool) -> Tensor:
    """Scan where the steps lie: backwards in time, chunks are taken from the end."""
    b, length, s = Bu.shape
    width = max(1, math.isqrt(length))
    chunks = -(-length // width)
    padding = chunks * width - length
    ends = (padding, 0) if reverse else (0, padding)
    x = torch.nn.functional.pad(Bu, (0, 0, *ends)) if padding else Bu.clone()
    x = x.view(b, chunks, width, s)
    # Repeated multiplication, not exp(t·log λ): exact zeros stay zeros and λ may be 0.
    powers = A_bar.expand(width, s).cumprod(dim=0)
    steps, order, rest, last = range(1, width), range(chunks), slice(-1), -1
    back = -1
    if reverse:
        steps, order, rest, last = range(width - 2, -1, -1), order[::-1], slice(1, None), 0
        powers, back = powers.flip(0), 1
    for t in steps:
        x[:, :, t].addcmul_(x[:, :, t + back], A_bar)
    carry = x0
    for j in order:
        # The carry enters the last step of the chunk first, so that the next chunk can start.
        incoming = carry
        carry = torch.addcmul(x[:, j, last], incoming, powers[last])
        x[:, j, rest].addcmul_(incoming.unsqueeze(1), powers[rest])
        x[:, j, last] = carry
    return x.view(b, chunks * width, s).narrow(1, ends[0], length)
