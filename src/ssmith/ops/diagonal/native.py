"""The diagonal scan on the CPU kernels: a torch operator with its gradient."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Complex
from torch import Tensor

from ssmith.ops.native.loading import kernels, parts_for
from ssmith.ops.native.memory import written
from ssmith.ops.native.structs import DiagonalArgs, address
from ssmith.ops.once import once


def diagonal_scan(
    A_bar: Complex[Tensor, "s"],
    Bu: Complex[Tensor, "b l s"],
    x0: Complex[Tensor, "b s"] | None = None,
    *,
    reverse: bool = False,
    overwrite: bool = False,
) -> tuple[Complex[Tensor, "b l s"], Complex[Tensor, "b s"]]:
    """Compute what `reference.diagonal_scan` does, in complex64; ``overwrite`` as in `dispatch`."""
    start = Bu.new_zeros(Bu.shape[0], Bu.shape[2]) if x0 is None else x0
    if Bu.numel() == 0:
        return Bu, start
    A_bar, Bu, start = (tensor.resolve_conj().contiguous() for tensor in (A_bar, Bu, start))
    tracked = A_bar.requires_grad or Bu.requires_grad or start.requires_grad
    if (tracked and torch.is_grad_enabled()) or torch.compiler.is_compiling():
        states: Tensor = torch.ops.ssmith.diagonal_scan(A_bar, Bu, start, reverse)
    else:
        states = Bu if overwrite else torch.empty_like(Bu)
        _call(A_bar, Bu, reverse, states, {"x0": start})
    return states, states[:, 0] if reverse else states[:, -1]


def _call(A_bar: Tensor, Bu: Tensor, reverse: bool, x: Tensor, others: dict[str, Tensor]) -> None:
    b, length, s = Bu.shape
    pointers = {name: address(tensor) for name, tensor in others.items()}
    args = DiagonalArgs(
        b=b, l=length, s=s, parts=parts_for(b * length * s), reverse=int(reverse),
        A_bar=address(A_bar), Bu=address(Bu), x=written(x), **pointers,
    )  # fmt: skip
    kernels().call("diagonal", args)


def _forward(A_bar: Tensor, Bu: Tensor, x0: Tensor, reverse: bool) -> Tensor:
    states = torch.empty_like(Bu)
    _call(A_bar, Bu, reverse, states, {"x0": x0})
    return states


def _backward(
    A_bar: Tensor, states: Tensor, x0: Tensor, grad: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of A_bar, Bu and x0: one scan against the direction of the forward."""
    decay = A_bar.conj().resolve_conj()
    adjoint = torch.empty_like(grad)
    grad_A = torch.empty_like(x0)
    tensors = {"states": states, "start": x0, "dA": grad_A}
    _call(decay, grad, not reverse, adjoint, tensors)
    first = adjoint[:, -1] if reverse else adjoint[:, 0]
    return grad_A.sum(0), adjoint, decay * first


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    A_bar, _, x0, ctx.reverse = inputs
    ctx.save_for_backward(A_bar, output, x0)


@once("the diagonal scan")
def _autograd(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    A_bar, states, x0 = ctx.saved_tensors
    grad = grad.resolve_conj().contiguous()
    return (*torch.ops.ssmith.diagonal_scan_backward(A_bar, states, x0, grad, ctx.reverse), None)


def _fake_backward(
    A_bar: Tensor, states: Tensor, x0: Tensor, grad: Tensor, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(A_bar), torch.empty_like(states), torch.empty_like(x0)


_op = torch.library.custom_op(
    "ssmith::diagonal_scan", _forward, mutates_args=(), device_types="cpu",
    schema="(Tensor A_bar, Tensor Bu, Tensor x0, bool reverse) -> Tensor",
)  # fmt: skip
_op.register_fake(lambda A_bar, Bu, x0, reverse: torch.empty_like(Bu))
_op.register_autograd(_autograd, setup_context=_setup_context)
torch.library.custom_op(
    "ssmith::diagonal_scan_backward", _backward, mutates_args=(), device_types="cpu",
    schema="(Tensor A_bar, Tensor states, Tensor x0, Tensor grad, bool reverse) "
    "-> (Tensor, Tensor, Tensor)",
).register_fake(_fake_backward)  # fmt: skip
