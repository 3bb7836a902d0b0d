"""The causal convolution on the best path there is."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ssmith.ops.backends import chosen
from ssmith.ops.causal_conv.native import MAX_TAPS, causal_conv_native
from ssmith.ops.causal_conv.reference import causal_conv_reference
from ssmith.ops.precision import common_dtype


def causal_conv(
    x: Float[Tensor, "b l e"],
    weight: Float[Tensor, "e k"],
    bias: Float[Tensor, "e"] | None = None,
    state: Float[Tensor, "b q e"] | None = None,
    *,
    silu: bool = True,
) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b q e"]]:
    """Run `causal_conv_reference` on the best path; what it returns has the dtype of ``x``."""
    native = chosen("causal_conv", x) == "native"
    if native and x.numel() and weight.shape[1] <= MAX_TAPS:
        return causal_conv_native(x, weight, bias, state, silu=silu)
    given = [tensor for tensor in (x, weight, bias, state) if tensor is not None]
    dtype = common_dtype(given)
    y, last = causal_conv_reference(
        x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype),
        None if state is None else state.to(dtype), silu=silu,
    )  # fmt: skip
    return y.to(x.dtype), last.to(x.dtype)
