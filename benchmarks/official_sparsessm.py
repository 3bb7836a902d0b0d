"""SparseSSM's released procedure on one layer, written plainly from its description.

One Python step per token, every state kept, two forward passes of the layer per sequence: the
rival that calibration is timed against. Batch size one, float32, as there. The two products that
are made before the loop, and the read-out of every step, may be spelled as there, by ``einsum``,
or by broadcasting, which is faster: both are timed.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Spelling = Literal["einsum", "broadcast"]


def forward(
    mixer, hidden: Tensor, keep: Tensor, spelling: Spelling
) -> tuple[Tensor, list[Tensor], Tensor]:
    """One pass: the output, the state before and after every step, and every step's decay."""
    n, length = mixer.A_log.shape[1], hidden.shape[1]
    x, z = mixer.in_proj(hidden).chunk(2, dim=-1)
    x = functional.silu(mixer.conv1d(x.mT)[..., :length].mT)
    rank, B, C = mixer.x_proj(x).split([mixer.time_step_rank, n, n], dim=-1)
    dt = functional.softplus(mixer.dt_proj(rank))
    # A removed entry of A_log is zero: A = −1.
    A = -torch.exp(mixer.A_log * keep)
    if spelling == "einsum":
        A_bar = torch.exp(torch.einsum("ble,en->blen", dt, A))
        Bx = torch.einsum("ble,bln,ble->blen", dt, B, x)
    else:
        A_bar = torch.exp(dt[..., None] * A)
        Bx = (dt * x)[..., None] * B[:, :, None]
    h = torch.zeros_like(A_bar[:, 0])
    states, outputs = [h], []
    for t in range(length):
        h = A_bar[:, t] * h + Bx[:, t]
        states.append(h)
        if spelling == "einsum":
            outputs.append(torch.einsum("ben,bn->be", h, C[:, t]))
        else:
            outputs.append((h * C[:, t, None]).sum(-1))
    y = torch.stack(outputs, 1) + mixer.D * x
    return mixer.out_proj(y * functional.silu(z)), states, A_bar


@torch.no_grad()
def prune(
    mixer, samples: Tensor, fraction: float, spelling: Spelling = "einsum"
) -> tuple[Tensor, Tensor]:
    """Collect, prune, and run again: the mask and the outputs that the next layer is given."""
    length, shape = samples.shape[1], mixer.A_log.shape
    everything = torch.ones(shape, dtype=torch.bool)
    S, Psi = torch.zeros(length, *shape), torch.zeros(length, *shape)
    for number, hidden in enumerate(samples):
        _, states, A_bar = forward(mixer, hidden[None], everything, spelling)
        S *= number / (number + 1)
        S += torch.stack(states[:length], 1)[0].square()
        Psi += A_bar[0]
    weights = 1.0 / torch.arange(1, length + 1)
    weights = weights / weights.sum()
    Q = (weights[:, None, None] * Psi.square() * S).sum(0)
    removed = round(fraction * Q.numel())
    keep = torch.ones(Q.numel(), dtype=torch.bool)
    keep[Q.flatten().argsort(descending=True, stable=True)[Q.numel() - removed :]] = False
    keep = keep.view_as(Q)
    del S, Psi, states, A_bar
    outputs = [forward(mixer, hidden[None], keep, spelling)[0][0] for hidden in samples]
    return keep, torch.stack(outputs)
