"""Mamba-2's scan as its definition reads: one step after the other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.ops.ssd.inputs import SSDInputs


def ssd_reference(
    inputs: SSDInputs,
) -> tuple[Float[Tensor, "b l h p"], Float[Tensor, "b h p n"]]:
    """Run ``h ← exp(Δ·A)·h + Δ·x·Bᵀ``, ``y = (h + h′)·C + D·x`` step by step.

    Source: Mamba-2 (arXiv 2405.21060), section 3; State-offset Tuning (arXiv 2503.03499) for h′.
    Differs: one formula for prefill and decoding, the clamp of Δ included.
    """
    inputs.check()
    heads = inputs.x.shape[2] // inputs.B.shape[2]
    B = inputs.B.repeat_interleave(heads, dim=2)
    C = inputs.C.repeat_interleave(heads, dim=2)
    h = inputs.start()
    outputs = []
    steps = (inputs.x, inputs.step_sizes(), B, C)
    for x_t, dt_t, B_t, C_t in zip(*(tensor.unbind(1) for tensor in steps), strict=True):
        A_bar = torch.exp(dt_t * inputs.A)[:, :, None, None]
        h = A_bar * h + (dt_t[:, :, None] * x_t)[..., None] * B_t[:, :, None, :]
        seen = h if inputs.h_offset is None else h + inputs.h_offset
        outputs.append((seen @ C_t[..., None]).squeeze(-1))
    y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(inputs.x)
    return (y if inputs.D is None else y + inputs.D[:, None] * inputs.x), h
