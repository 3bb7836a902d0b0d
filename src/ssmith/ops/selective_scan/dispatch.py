"""The selective scan on the best path there is."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ssmith.ops.backends import chosen
from ssmith.ops.selective_scan.chunked import selective_scan_chunked
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.native import selective_scan_native
from ssmith.ops.selective_scan.reference import selective_scan_reference
from ssmith.ops.selective_scan.triton import selective_scan_triton


def selective_scan(
    inputs: ScanInputs,
) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b e n"]]:
    """Run the selective scan; differentiable in every tensor, linear in length in both directions.

    Args:
        inputs: see `ScanInputs`.

    Returns:
        The outputs in the dtype of ``x``, and the state after the last step (float32 or wider).
    """
    backend = chosen("selective_scan", inputs.x)
    if backend == "reference":
        return selective_scan_reference(inputs)
    if backend == "native" and inputs.x.numel() and inputs.A.numel():
        return selective_scan_native(inputs)
    if backend == "triton" and inputs.x.numel() and inputs.A.numel():
        return selective_scan_triton(inputs)
    return selective_scan_chunked(inputs)
