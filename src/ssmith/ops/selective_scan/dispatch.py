"""The selective scan on the best path there is."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.ops.backends import chosen
from ssmith.ops.precision import widened
from ssmith.ops.selective_scan.chunked import selective_scan_chunked
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.native import selective_scan_native
from ssmith.ops.selective_scan.reference import selective_scan_reference
from ssmith.ops.selective_scan.step import is_step, selective_step_native
from ssmith.ops.selective_scan.triton import selective_scan_triton


def selective_scan(
    inputs: ScanInputs,
) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b e n"]]:
    """Run the selective scan; differentiable in every tensor, linear in length in both directions.

    One step that continues from a state takes the operation ``selective_step``, made for it. The
    outputs have the dtype of ``x``, the state after the last step float32 or wider.
    """
    if is_step(inputs):
        if chosen("selective_step", inputs.x) != "native":
            y, h_last = selective_scan_reference(widened(inputs.expanded()))
            return y.to(inputs.x.dtype), h_last
        grad = torch.is_grad_enabled()
        tracked = grad and any(tensor.requires_grad for tensor in inputs.tensors().values())
        if not tracked and not torch.compiler.is_compiling():
            return selective_step_native(inputs)
    backend = chosen("selective_scan", inputs.x)
    if backend == "native" and inputs.x.numel() and inputs.A.numel():
        return selective_scan_native(inputs)
    if backend == "triton" and inputs.x.numel() and inputs.A.numel():
        return selective_scan_triton(inputs)
    plain = selective_scan_reference if backend == "reference" else selective_scan_chunked
    y, h_last = plain(widened(inputs))
    return y.to(inputs.x.dtype), h_last
