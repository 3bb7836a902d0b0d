"""A scan, by the single step where it is one."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ssmith.ops.selective_scan import ScanInputs, selective_scan
from ssmith.ops.selective_step import StepInputs, selective_step


def advance(inputs: ScanInputs) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b e n"]]:
    """Run a scan; one step that continues from a state takes the operation made for it."""
    if inputs.x.shape[1] != 1 or inputs.h0 is None or inputs.valid is not None:
        return selective_scan(inputs)
    y, h = selective_step(
        StepInputs(
            h=inputs.h0, x=inputs.x[:, 0], dt=inputs.logits[:, 0], A=inputs.A, B=inputs.B[:, 0],
            C=inputs.C[:, 0], D=inputs.D, z=None if inputs.z is None else inputs.z[:, 0],
            dt_bias=inputs.dt_bias, dt_softplus=inputs.dt_softplus, h_offset=inputs.h_offset,
            y_offset=inputs.y_offset,
        )
    )  # fmt: skip
    return y[:, None], h
