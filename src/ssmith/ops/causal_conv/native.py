"""The causal convolution on the CPU kernels: a torch operator with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.ops.causal_conv.reference import check_conv
from ssmith.ops.native.loading import kernels, parts_for
from ssmith.ops.native.memory import written
from ssmith.ops.native.structs import ConvArgs, address, rows
from ssmith.ops.once import once
from ssmith.ops.reuse import empty

MAX_TAPS = 4
"""The kernels keep the taps in registers; every released model has at most four."""


def causal_conv_native(
    x: Float[Tensor, "b l e"],
    weight: Float[Tensor, "e k"],
    bias: Float[Tensor, "e"] | None = None,
    state: Float[Tensor, "b q e"] | None = None,
    *,
    silu: bool = True,
) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b q e"]]:
    """Compute what `causal_conv_reference` does, in float32, for up to `MAX_TAPS` taps."""
    check_conv(x, weight, bias, state)
    wide = x.float()
    tensors = (
        wide if wide.stride(-1) == 1 else wide.contiguous(),
        weight.float().mT.contiguous(),
        None if bias is None else bias.float().contiguous(),
        None if state is None else state.float().contiguous(),
    )
    needs_grad = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in tensors
    )
    if needs_grad or torch.compiler.is_compiling():
        y = torch.ops.ssmith.causal_conv(*tensors, silu)
    else:
        y = _forward(*tensors, silu)
    return y.to(x.dtype), last_steps(x, state, weight.shape[1] - 1)


def last_steps(x: Tensor, state: Tensor | None, q: int) -> Float[Tensor, "b q e"]:
    """Return the last q steps of the state followed by ``x``."""
    if x.shape[1] >= q:
        return x[:, x.shape[1] - q :]
    if state is None:
        state = x.new_zeros(x.shape[0], q, x.shape[2])
    return torch.cat([state.to(x.dtype), x], dim=1)[:, x.shape[1] :]


def _arguments(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor | None, silu: bool
) -> dict[str, int]:
    b, length, e = x.shape
    return {
        "b": b, "l": length, "e": e, "k": weight.shape[0], "silu": int(silu),
        "parts": parts_for(b * length * e),
        **rows("x", x), "weight": address(weight), "bias": address(bias), "state": address(state),
    }  # fmt: skip


def _forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor | None, silu: bool
) -> Tensor:
    y = empty(x.shape)
    args = ConvArgs(**_arguments(x, weight, bias, state, silu), y=written(y))
    kernels().call("conv_forward", args)
    return y


def _backward(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, weight, bias, state, dy, silu = given
    dx, dweight, dbias, dstate = _gradients(x, weight, state, x.shape[0])
    args = ConvArgs(
        **_arguments(x, weight, bias, state, silu), **rows("dy", dy), dx=written(dx),
        dweight=address(dweight), dbias=address(dbias),
        dstate=0 if state is None else address(dstate),
    )  # fmt: skip
    kernels().call("conv_backward", args)
    return dx, dweight.sum(0), dbias.sum(0), dstate


def _gradients(
    x: Tensor, weight: Tensor, state: Tensor | None, b: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    k, e = weight.shape
    shape = (0,) if state is None else state.shape
    made = (x.shape, (b, k, e), (b, e), shape)
    dx, dweight, dbias, dstate = (x.new_empty(shape) for shape in made)
    return dx, dweight, dbias, dstate


def _fake_backward(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, weight, _, state, _, _ = given
    dx, dweight, dbias, dstate = _gradients(x, weight, state, 1)
    return dx, dweight[0], dbias[0], dstate


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.silu = inputs
    ctx.save_for_backward(*tensors)


@once("the causal convolution")
def _autograd(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, weight, bias, state = ctx.saved_tensors
    if dy.stride(-1) != 1:
        dy = dy.contiguous()
    dx, dweight, dbias, dstate = torch.ops.ssmith.causal_conv_backward(
        x, weight, bias, state, dy, ctx.silu
    )
    return dx, dweight, None if bias is None else dbias, None if state is None else dstate, None


_op = torch.library.custom_op(
    "ssmith::causal_conv", _forward, mutates_args=(), device_types="cpu",
    schema="(Tensor x, Tensor weight, Tensor? bias, Tensor? state, bool silu) -> Tensor",
)  # fmt: skip
_op.register_fake(lambda x, *_: x.new_empty(x.shape))
_op.register_autograd(_autograd, setup_context=_setup_context)
torch.library.custom_op(
    "ssmith::causal_conv_backward", _backward, mutates_args=(), device_types="cpu",
    schema="(Tensor x, Tensor weight, Tensor? bias, Tensor? state, Tensor dy, bool silu) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
).register_fake(_fake_backward)  # fmt: skip
