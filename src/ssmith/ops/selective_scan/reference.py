"""The selective scan as its definition reads: one step after the other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ssmith.ops.selective_scan.inputs import ScanInputs


def step_sizes(inputs: ScanInputs) -> Float[Tensor, "b l e"]:
    """Return Δ: ``dt``, plus bias, through softplus, as the inputs ask."""
    dt = inputs.logits if inputs.dt_bias is None else inputs.logits + inputs.dt_bias
    dt = functional.softplus(dt) if inputs.dt_softplus else dt
    return dt if inputs.valid is None else dt * inputs.valid[:, :, None]


def read_out(inputs: ScanInputs, y: Float[Tensor, "b l e"]) -> Float[Tensor, "b l e"]:
    """Add offsets and skip to the state's output ``C·h`` and apply the gate."""
    if inputs.h_offset is not None:
        y = y + inputs.C @ inputs.h_offset.T
    if inputs.D is not None:
        y = y + inputs.D * inputs.x
    if inputs.y_offset is not None:
        y = y + inputs.y_offset
    return y if inputs.z is None else y * functional.silu(inputs.z)


def selective_scan_reference(
    inputs: ScanInputs,
) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b e n"]]:
    """Run ``h ← exp(Δ·A)·h + Δ·B·x``, ``y = (C·(h + h′) + D·x + y′)·SiLU(z)`` step by step.

    Every intermediate has the dtype of the inputs, so float64 in gives the judge of the twins.
    Returned are the outputs and the state after the last step.

    Source: Mamba (arXiv 2312.00752), algorithm 2; State-offset Tuning (arXiv 2503.03499) for h′
        and y′.
    Differs: nothing; B is discretised by Euler's rule, as in every released implementation.
    """
    inputs.check()
    dt = step_sizes(inputs)
    h = inputs.x.new_zeros(inputs.x.shape[0], *inputs.A.shape) if inputs.h0 is None else inputs.h0
    outputs = []
    steps = zip(
        inputs.x.unbind(1), dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1), strict=True
    )
    for x_t, dt_t, B_t, C_t in steps:
        A_bar = torch.exp(dt_t[:, :, None] * inputs.A)
        h = A_bar * h + (dt_t * x_t)[:, :, None] * B_t[:, None, :]
        outputs.append((h @ C_t[:, :, None]).squeeze(-1))
    y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(inputs.x)
    return read_out(inputs, y), h
