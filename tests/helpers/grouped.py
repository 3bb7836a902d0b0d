"""A Mamba-2 mixer by its formulas, step by step in float64: what plans for its states rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FAMILIES = (
    "mamba2", "mamba2 with biases", "bamba", "falcon_h1", "falcon_h1 normed",
    "falcon_h1 normed first", "granitemoehybrid", "nemotron_h", "zamba2",
)  # fmt: skip


@dataclass
class Steps:
    """States H (l, h, p, n), B and C (l, g, n), Δ (l, h), y (l, e), gate (l, e) of one row."""

    H: Tensor
    B: Tensor
    C: Tensor
    delta: Tensor
    y: Tensor
    gate: Tensor


def by_steps(mixer: Any, hidden: Tensor) -> Steps:
    """Run one row (l, m) through a mixer's formulas, one step after the other."""
    g, n, h, p = mixer.n_groups, mixer.ssm_state_size, mixer.num_heads, mixer.head_dim
    e = h * p
    scaled = hidden * getattr(mixer, "ssm_in_multiplier", 1.0)
    rows = scaled @ mixer.in_proj.weight.T
    rows = rows if mixer.in_proj.bias is None else rows + mixer.in_proj.bias
    if hasattr(mixer, "mup_vector"):
        rows = rows * mixer.mup_vector.reshape(-1)
    gate, raw, dt = rows[:, :e], rows[:, e : 2 * e + 2 * g * n], rows[:, 2 * e + 2 * g * n :]
    taps, bias = mixer.conv1d.weight[:, 0], mixer.conv1d.bias
    padded = torch.cat([raw.new_zeros(taps.shape[1] - 1, raw.shape[1]), raw])
    pieces = [(padded[t : t + taps.shape[1]].T * taps).sum(1) for t in range(len(raw))]
    mixed = torch.stack(pieces) + (0.0 if bias is None else bias)
    x, B, C = functional.silu(mixed).split([e, g * n, g * n], dim=1)
    delta = functional.softplus(dt + mixer.dt_bias).clamp(*mixer.time_step_limit)
    state, found, y = hidden.new_zeros(h, p, n), [], []
    x, B, C = x.view(-1, h, p), B.view(-1, g, n), C.view(-1, g, n)
    for t in range(len(x)):
        decay = torch.exp(-delta[t] * mixer.A_log.exp())
        own = B[t].repeat_interleave(h // g, 0)
        state = decay[:, None, None] * state + torch.einsum("h,hp,hn->hpn", delta[t], x[t], own)
        read = torch.einsum("hpn,hn->hp", state, C[t].repeat_interleave(h // g, 0))
        found.append(state)
        y.append((read + mixer.D[:, None] * x[t]).reshape(-1))
    return Steps(torch.stack(found), B, C, delta, torch.stack(y), gate)


def gain_of(mixer: Any, y: Tensor, gate: Tensor) -> Tensor:
    """Return what a small error of each channel costs at one step, by its derivative.

    Its norm's factor is held fast, as the method does.
    """
    norm = getattr(mixer, "norm", None) if getattr(mixer, "mamba_rms_norm", True) else None
    silu = gate * torch.sigmoid(gate)
    scale = torch.ones_like(y)
    if norm is not None:
        inner = y if getattr(norm, "norm_before_gate", False) else y * silu
        count = norm.n_groups if hasattr(norm, "n_groups") else len(y) // norm.group_size
        for part in range(count):
            own = slice(part * len(y) // count, (part + 1) * len(y) // count)
            scale[own] = (inner[own].pow(2).mean() + norm.variance_epsilon) ** -0.5
        scale = scale * norm.weight
    per_channel = mixer.out_proj.weight * (scale * silu)
    return per_channel.pow(2).sum(0)
