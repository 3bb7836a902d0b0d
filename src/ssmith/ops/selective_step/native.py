"""One step of the selective scan on the CPU kernels, without gradients (decoding)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.ops.native.loading import library, parts_for
from ssmith.ops.native.structs import StepArgs, address, rows
from ssmith.ops.selective_step.inputs import StepInputs

_OVER_BATCH = ("x", "dt", "z", "B", "C")
_PLAIN = ("A", "D", "dt_bias", "h_offset", "y_offset", "h")


def selective_step_native(
    inputs: StepInputs,
) -> tuple[Float[Tensor, "b e"], Float[Tensor, "b e n"]]:
    """Compute what `selective_step_reference` does, in float32."""
    kernels = library()
    if kernels is None:
        raise RuntimeError("the CPU kernels are not loaded")
    b, e = inputs.x.shape
    n = inputs.A.shape[1]
    kept = {name: _dense(getattr(inputs, name), name) for name in (*_OVER_BATCH, *_PLAIN)}
    y = torch.empty(b, e, dtype=torch.float32)
    h_new = torch.empty(b, e, n, dtype=torch.float32)
    fields = {"b": b, "e": e, "n": n, "softplus": int(inputs.dt_softplus)}
    fields["parts"] = parts_for(b * e * n)
    for name, tensor in kept.items():
        fields |= rows(name, tensor) if name in _OVER_BATCH else {name: address(tensor)}
    kernels.call("step", StepArgs(**fields, y=address(y), h_new=address(h_new)))
    return y.to(inputs.x.dtype), h_new


def _dense(tensor: Tensor | None, name: str) -> Tensor | None:
    if tensor is None:
        return None
    tensor = tensor.float()
    return tensor if name in _OVER_BATCH and tensor.stride(-1) == 1 else tensor.contiguous()
