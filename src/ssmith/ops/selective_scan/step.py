"""One step of the selective scan on the CPU kernels, without gradients (decoding)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.ops.native.loading import kernels, parts_for
from ssmith.ops.native.structs import StepArgs, address, rows
from ssmith.ops.selective_scan.inputs import ScanInputs

_OVER_BATCH = ("x", "dt", "z", "B", "C")
_PLAIN = ("A", "D", "dt_bias", "h_offset", "y_offset")


def is_step(inputs: ScanInputs) -> bool:
    """Return whether a scan is one step that continues from a state, and no padding."""
    return inputs.x.shape[1] == 1 and inputs.h0 is not None and inputs.valid is None


def selective_step_native(
    inputs: ScanInputs,
) -> tuple[Float[Tensor, "b 1 e"], Float[Tensor, "b e n"]]:
    """Compute what `selective_scan_reference` does where `is_step` holds, in float32."""
    b, _, e = inputs.x.shape
    n = inputs.A.shape[1]
    given = vars(inputs) | {"dt": inputs.logits}
    steps = {name: None if given[name] is None else given[name][:, 0] for name in _OVER_BATCH}
    kept = {name: _dense(tensor, over_batch=True) for name, tensor in steps.items()}
    kept |= {name: _dense(given[name]) for name in _PLAIN} | {"h": _dense(inputs.h0)}
    y = torch.empty(b, e, dtype=torch.float32)
    h_new = torch.empty(b, e, n, dtype=torch.float32)
    fields = {"b": b, "e": e, "n": n, "softplus": int(inputs.dt_softplus)}
    fields["parts"] = parts_for(b * e * n)
    for name, tensor in kept.items():
        fields |= rows(name, tensor) if name in _OVER_BATCH else {name: address(tensor)}
    kernels().call("step", StepArgs(**fields, y=address(y), h_new=address(h_new)))
    return y[:, None].to(inputs.x.dtype), h_new


def _dense(tensor: Tensor | None, *, over_batch: bool = False) -> Tensor | None:
    if tensor is None:
        return None
    tensor = tensor.float()
    return tensor if over_batch and tensor.stride(-1) == 1 else tensor.contiguous()
