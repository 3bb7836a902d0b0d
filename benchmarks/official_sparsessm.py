"""SparseSSM's released procedure on one layer, written plainly from its description.

One Python step per token, every state kept, two forward passes of the layer per sequence: the
rival that calibration is timed against. Batch size one, float32, as there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def forward(mixer, hidden: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One pass: the output, the state before every step, and the decay of every step."""
    n, length = mixer.A_log.shape[1], hidden.shape[1]
    x, z = mixer.in_proj(hidden).chunk(2, dim=-1)
    taps = mixer.conv1d(x.mT)[..., :length]
    x = functional.silu(taps).mT
    rank, B, C = mixer.x_proj(x).split([mixer.time_step_rank, n, n], dim=-1)
    dt = functional.softplus(mixer.dt_proj(rank))
    # A removed entry of A_log is zero: A = −1.
    A = -torch.exp(mixer.A_log * keep)
    A_bar = torch.exp(dt[..., None] * A)
    Bx = (dt * x)[..., None] * B[:, :, None]
    h = torch.zeros_like(A_bar[:, 0])
    states, outputs = [h], []
    for t in range(length):
        h = A_bar[:, t] * h + Bx[:, t]
        states.append(h)
        outputs.append((h * C[:, t, None]).sum(-1))
    y = torch.stack(outputs, 1) + mixer.D * x
    before = torch.stack(states[:-1], 1)
    return mixer.out_proj(y * functional.silu(z)), before[0], A_bar[0]


@torch.no_grad()
def prune(mixer, samples: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Collect, prune, and run again: the mask and the outputs that the next layer is given."""
    everything = torch.ones_like(mixer.A_log, dtype=torch.bool)
    S = Psi = None
    for number, hidden in enumerate(samples):
        _, before, A_bar = forward(mixer, hidden[None], everything)
        S = before.square() if S is None else S * (number / (number + 1)) + before.square()
        Psi = A_bar if Psi is None else Psi + A_bar
    weights = 1.0 / torch.arange(1, samples.shape[1] + 1)
    weights = weights / weights.sum()
    Q = (weights[:, None, None] * Psi.square() * S).sum(0)
    removed = round(fraction * Q.numel())
    keep = torch.ones(Q.numel(), dtype=torch.bool)
    keep[Q.flatten().argsort(descending=True, stable=True)[Q.numel() - removed :]] = False
    keep = keep.view_as(Q)
    outputs = [forward(mixer, hidden[None], keep)[0][0] for hidden in samples]
    return keep, torch.stack(outputs)
