"""Mamba-2's scan on the CPU kernels: a torch operator with its gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.ops.native.loading import kernels, parts_for
from ssmith.ops.native.memory import written
from ssmith.ops.native.structs import SSDArgs, address, rows
from ssmith.ops.once import once
from ssmith.ops.ssd.inputs import SSDInputs

CHUNK = 64
"""States are kept before every chunk of this many steps, as in ``abi.h``."""

_ORDER = ("x", "dt", "A", "B", "C", "D", "h0", "h_offset")
_OVER_TIME = ("x", "dt", "B", "C")


def ssd_native(inputs: SSDInputs) -> tuple[Float[Tensor, "b l h p"], Float[Tensor, "b h p n"]]:
    """Run the scan of `ssd_reference` on the CPU kernels.

    The kernels run the recurrence itself, one state after the other in registers, rather than the
    dual form's matrix products: per state and step it takes three operations where the products
    take two, and needs no chunk-by-chunk matrices, which cost torch's form most of its time.
    """
    inputs.check()
    if not inputs.x.numel() or not inputs.B.numel():
        raise ValueError("the kernels need at least one sequence, step, head, channel and state")
    tensors = _prepared(inputs)
    keep = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in tensors
    )
    run = torch.ops.ssmith.ssd if keep or torch.compiler.is_compiling() else _forward
    y, h_last, _ = run(*tensors, keep)
    return y.to(inputs.x.dtype), h_last.mT


def _prepared(inputs: SSDInputs) -> list[Tensor | None]:
    """Return the tensors in float32, in the order and layout of the kernels."""
    bias = None if inputs.dt_bias is None else inputs.dt_bias.float()
    steps = replace(inputs, dt=inputs.dt.float(), dt_bias=bias).step_sizes()
    given = {name: getattr(inputs, name) for name in _ORDER} | {"dt": steps}
    return [None if tensor is None else _prepare(name, tensor) for name, tensor in given.items()]


def _prepare(name: str, tensor: Tensor) -> Tensor:
    tensor = tensor.float()
    if name in ("h0", "h_offset"):
        return tensor.mT.contiguous()
    if name not in _OVER_TIME:
        return tensor.contiguous()
    return tensor if _is_row(tensor) else tensor.contiguous()


def _is_row(tensor: Tensor) -> bool:
    """Return whether all after the axis of time lies without gaps."""
    dense = tensor.ndim == 3 or tensor.stride(2) == tensor.shape[3]
    return bool(tensor.stride(-1) == 1 and dense)


def _arguments(tensors: tuple[Any, ...]) -> dict[str, int]:
    given = dict(zip(_ORDER, tensors, strict=True))
    b, length, h, p = given["x"].shape
    g, n = given["B"].shape[2:]
    fields = {"b": b, "l": length, "h": h, "p": p, "g": g, "n": n}
    fields["parts"] = parts_for(b * length * h * p * n)
    for name, tensor in given.items():
        fields |= rows(name, tensor) if name in _OVER_TIME else {name: address(tensor)}
    return fields


def _outputs(x: Tensor, B: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    b, length, h, p = x.shape
    n = B.shape[3]
    chunks = -(-length // CHUNK) if keep else 0
    return x.new_empty(x.shape), x.new_empty(b, h, n, p), x.new_empty(b, chunks, h, n, p)


def _forward(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    *tensors, keep = given
    y, h_last, bounds = _outputs(tensors[0], tensors[3], keep)
    args = SSDArgs(
        **_arguments(tuple(tensors)),
        y=written(y), h_last=address(h_last), bounds=written(bounds) if keep else 0,
    )  # fmt: skip
    kernels().call("ssd_forward", args)
    return y, h_last, bounds


def _gradients(tensors: list[Any], split: int) -> dict[str, Tensor]:
    """Return the places of the gradients, as the kernels write them; sizes may be symbolic."""
    given = dict(zip(_ORDER, tensors, strict=True))
    x, B = given["x"], given["B"]
    b, length, h, p = x.shape
    n = B.shape[3]
    made = {"x": x.new_empty(x.shape), "dt": x.new_empty(b, length, h), "A": x.new_empty(b, h)}
    made |= {name: x.new_zeros(split, *B.shape) for name in ("B", "C")}
    made |= {"D": x.new_empty(b, h), "h0": x.new_empty(b, h, n, p)}
    offset = given["h_offset"]
    return made | {"h_offset": x.new_empty((0,) if offset is None else (b, h, n, p))}


def _backward(*given: Any) -> list[Tensor]:
    *tensors, bounds, dy, dh_last = given
    fields = _arguments(tuple(tensors))
    made = _gradients(tensors, fields["parts"])
    args = SSDArgs(
        **fields, **rows("dy", dy), bounds=address(bounds), dh_last=address(dh_last),
        **{f"d{name}": written(tensor) if tensor.numel() else 0 for name, tensor in made.items()},
    )  # fmt: skip
    kernels().call("ssd_backward", args)
    # Sums over sequences (and over threads, for B and C) are left to torch.
    for name in ("A", "B", "C", "D", "h_offset"):
        if made[name].numel():
            made[name] = made[name].sum(0)
    return [made[name] for name in _ORDER]


def _fake_backward(*given: Any) -> list[Tensor]:
    *tensors, _, _, _ = given
    made = _gradients(tensors, 1)
    for name in ("A", "B", "C", "D") + (() if tensors[7] is None else ("h_offset",)):
        made[name] = made[name].new_empty(made[name].shape[1:])
    return [made[name] for name in _ORDER]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _ = inputs
    ctx.save_for_backward(*tensors, output[2])


@once("the scan of Mamba-2")
def _autograd(ctx: Any, dy: Tensor, dh_last: Tensor, _: Tensor) -> tuple[Any, ...]:
    *tensors, bounds = ctx.saved_tensors
    if not _is_row(dy):
        dy = dy.contiguous()
    gradients = torch.ops.ssmith.ssd_backward(*tensors, bounds, dy, dh_last.contiguous())
    wanted = [
        gradient if tensor is not None else None
        for tensor, gradient in zip(tensors, gradients, strict=True)
    ]
    return (*wanted, None)


_TENSORS = (
    "Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? h0, Tensor? h_offset"
)
_op = torch.library.custom_op(
    "ssmith::ssd", _forward, mutates_args=(), device_types="cpu",
    schema=f"({_TENSORS}, bool keep) -> (Tensor, Tensor, Tensor)",
)  # fmt: skip
_op.register_fake(lambda *given: _outputs(given[0], given[3], given[-1]))
_op.register_autograd(_autograd, setup_context=_setup_context)
torch.library.custom_op(
    "ssmith::ssd_backward", _backward, mutates_args=(), device_types="cpu",
    schema=f"({_TENSORS}, Tensor bounds, Tensor dy, Tensor dh_last) -> Tensor[]",
).register_fake(_fake_backward)  # fmt: skip
