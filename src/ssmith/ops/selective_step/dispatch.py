"""One step of the selective scan on the best path there is."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.ops.backends import chosen
from ssmith.ops.precision import widened
from ssmith.ops.selective_scan import selective_scan
from ssmith.ops.selective_step.inputs import StepInputs
from ssmith.ops.selective_step.native import selective_step_native
from ssmith.ops.selective_step.reference import selective_step_reference


def selective_step(
    inputs: StepInputs,
) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e n"]]:
    """Run `selective_step_reference` on the best path there is."""
    if chosen("selective_step", inputs.x) == "reference":
        y, h = selective_step_reference(widened(inputs))
        return y.to(inputs.x.dtype), h
    tensors = [value for value in vars(inputs).values() if isinstance(value, Tensor)]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        y, h = selective_scan(inputs.as_scan())
        return y[:, 0], h
    return selective_step_native(inputs)
