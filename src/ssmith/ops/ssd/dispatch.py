"""Mamba-2's scan on the best path there is."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ssmith.ops.backends import chosen
from ssmith.ops.precision import widened
from ssmith.ops.ssd.chunked import ssd_chunked
from ssmith.ops.ssd.inputs import SSDInputs
from ssmith.ops.ssd.native import ssd_native
from ssmith.ops.ssd.reference import ssd_reference


def ssd(inputs: SSDInputs) -> tuple[Float[Tensor, "b l h p"], Float[Tensor, "b h p n"]]:
    """Run Mamba-2's scan; differentiable in every tensor, memory linear in length.

    The outputs have the dtype of ``x``, the state after the last step float32 or wider.
    """
    backend = chosen("ssd", inputs.x)
    empty = not (inputs.x.numel() and inputs.B.numel())
    if backend == "native" and not empty:
        return ssd_native(inputs)
    # One step is cheaper by the definition than as a chunk of one.
    short = inputs.x.shape[1] == 1
    plain = ssd_reference if short or empty or backend == "reference" else ssd_chunked
    y, h_last = plain(widened(inputs))
    return y.to(inputs.x.dtype), h_last
