"""The selective scan on the CPU kernels: a torch operator with its gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ssmith.ops.native.loading import kernels, parts_for
from ssmith.ops.native.memory import written
from ssmith.ops.native.structs import ScanArgs, address, rows
from ssmith.ops.once import once
from ssmith.ops.reuse import empty
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.offsets import OFFSETS, tracked_offsets

CHUNK = 32
"""States are kept before every chunk of this many steps, as in ``abi.h``."""

_ORDER = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias", "h0", "h_offset", "y_offset")
_OVER_TIME = ("x", "dt", "B", "C", "z")
_OVER_STATES = ("A", "h0", "h_offset")


def selective_scan_native(
    inputs: ScanInputs,
) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b e n"]]:
    """Run the scan of `selective_scan_reference` on the CPU kernels.

    The kernels compute in float32 whatever comes in; the state is always float32. The backward
    recomputes states from chunk boundaries, so memory grows with l·n·e / 32.
    """
    inputs.check()
    if not inputs.x.numel() or not inputs.A.numel():
        raise ValueError("the kernels need at least one sequence, step, channel and state")
    inputs, dt_weight = low_rank(inputs)
    tensors = prepared(inputs)
    tracked = {
        name
        for name, tensor in zip(_ORDER, tensors, strict=True)
        if torch.is_grad_enabled() and tensor is not None and tensor.requires_grad
    }
    compiling = torch.compiler.is_compiling()
    if compiling or not tracked <= OFFSETS:
        keep = bool(tracked)
        y, h_last, _ = torch.ops.ssmith.selective_scan(*tensors, inputs.dt_softplus, keep)
    else:
        y, h_last, _ = _run(tensors, inputs.dt_softplus, keep=False, dt_weight=dt_weight)
        if tracked:
            named = dict(zip(_ORDER, tensors, strict=True))
            y = tracked_offsets(y, named["C"], named["z"], named["h_offset"], named["y_offset"])
    return y.to(inputs.x.dtype), h_last.mT


def low_rank(inputs: ScanInputs) -> tuple[ScanInputs, Float[Tensor, "e r"] | None]:
    """Take ``dt_weight`` out of the inputs.

    Returned are inputs with ``dt`` (b, l, r) as it is, and the weight for kernels that form the
    logits themselves. Where there is no weight, a gradient is tracked, steps are padding or
    something else than float32 comes in, they are inputs with all logits, and None.
    """
    weight = inputs.dt_weight
    given = inputs.tensors()
    tracked = torch.is_grad_enabled() and any(
        tensor.requires_grad for name, tensor in given.items() if name not in OFFSETS
    )
    narrow = inputs.dt.dtype == torch.float32 and not torch.compiler.is_compiling()
    if weight is None or weight.dtype != torch.float32 or not narrow:
        return inputs.expanded(), None
    if tracked or inputs.valid is not None:
        return inputs.expanded(), None
    return replace(inputs, dt_weight=None), weight.detach().contiguous()


def prepared(inputs: ScanInputs) -> list[Tensor | None]:
    """Return the tensors of a scan in float32, in the order and layout of the kernels."""
    given = {name: getattr(inputs, name) for name in _ORDER}
    if inputs.valid is not None:
        # softplus(−∞) is exactly 0: the step leaves the state as it was.
        nothing = -torch.inf if inputs.dt_softplus else 0.0
        given["dt"] = inputs.dt.masked_fill(~inputs.valid[:, :, None], nothing)
        if inputs.dt_bias is not None and not inputs.dt_softplus:
            given["dt"] = (inputs.dt + inputs.dt_bias) * inputs.valid[:, :, None]
            given["dt_bias"] = None
    return [None if tensor is None else _prepare(name, tensor) for name, tensor in given.items()]


def _prepare(name: str, tensor: Tensor) -> Tensor:
    """Return float32 in the layout the kernels read: rows over time, or state-major."""
    tensor = tensor.float()
    if name in _OVER_STATES:
        return tensor.mT.contiguous()
    return tensor if name in _OVER_TIME and tensor.stride(-1) == 1 else tensor.contiguous()


def arguments(
    tensors: Sequence[Tensor | None], softplus: bool, dt_weight: Tensor | None = None
) -> dict[str, int]:
    """Return the fields of ``ScanArgs`` that describe prepared inputs."""
    given = dict(zip(_ORDER, tensors, strict=True))
    x, A = given["x"], given["A"]
    if x is None or A is None:
        raise RuntimeError("x and A are required")
    b, length, e = x.shape
    fields = {"b": b, "l": length, "e": e, "n": A.shape[0]}
    fields |= {"parts": parts_for(b * length * e * A.shape[0]), "softplus": int(softplus)}
    fields |= {"dt_weight": address(dt_weight), "r": 0 if dt_weight is None else dt_weight.shape[1]}
    for name, tensor in given.items():
        fields |= rows(name, tensor) if name in _OVER_TIME else {name: address(tensor)}
    return fields


_SCHEMA = (
    "(Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? dt_bias, "
    "Tensor? h0, Tensor? h_offset, Tensor? y_offset, bool softplus, bool keep) "
    "-> (Tensor, Tensor, Tensor)"
)


def _outputs(
    x: Tensor, A: Tensor, keep: bool, new: Callable[[Any], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    b, length, e = x.shape
    n = A.shape[0]
    chunks = -(-length // CHUNK) if keep else 0
    return new((b, length, e)), new((b, n, e)), new((b, chunks, n, e))


def _forward(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    *tensors, softplus, keep = given
    return _run(tensors, softplus, keep=keep)


def _run(
    tensors: Sequence[Any], softplus: bool, *, keep: bool, dt_weight: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    y, h_last, bounds = _outputs(tensors[0], tensors[2], keep, empty)
    args = ScanArgs(
        **arguments(tensors, softplus, dt_weight),
        y=written(y), h_last=address(h_last), bounds=written(bounds) if keep else 0,
    )  # fmt: skip
    kernels().call("scan_forward", args)
    return y, h_last, bounds


def _gradient_shapes(tensors: list[Tensor | None], split: int) -> dict[str, Any]:
    """Return the shape of every gradient as the kernel writes it; sizes may be symbolic."""
    given = dict(zip(_ORDER, tensors, strict=True))
    x, A = given["x"], given["A"]
    if x is None or A is None:
        raise RuntimeError("x and A are required")
    (b, length, e), n = x.shape, A.shape[0]
    over_time, over_states, sums = (b, length, e), (b, n, e), (split, b, length, n)
    shapes = {"x": over_time, "dt": over_time, "A": over_states, "B": sums, "C": sums}
    shapes |= {"D": (b, e), "z": over_time, "dt_bias": (b, e)}
    shapes |= {"h0": over_states, "h_offset": over_states, "y_offset": (b, e)}
    for name in ("z", "h_offset"):
        if given[name] is None:
            shapes[name] = (0,)
    return shapes


def _backward(*given: Any) -> list[Tensor]:
    *tensors, bounds, dy, dh_last, softplus = given
    x = tensors[0]
    fields = arguments(tensors, softplus)
    shapes = _gradient_shapes(tensors, fields["parts"])
    made = {
        name: x.new_zeros(shape) if name in ("B", "C") else x.new_empty(shape)
        for name, shape in shapes.items()
    }
    args = ScanArgs(
        **fields, **rows("dy", dy), bounds=address(bounds), dh_last=address(dh_last),
        **{f"d{name}": written(tensor) if tensor.numel() else 0 for name, tensor in made.items()},
    )  # fmt: skip
    kernels().call("scan_backward", args)
    # Sums over sequences (and over threads, for B and C) are left to torch.
    for name in ("A", "B", "C", "D", "dt_bias", "h_offset", "y_offset"):
        if made[name].numel():
            made[name] = made[name].sum(0)
    return [made[name] for name in _ORDER]


_BACKWARD_SCHEMA = (
    "(Tensor x, Tensor dt, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? dt_bias, "
    "Tensor? h0, Tensor? h_offset, Tensor? y_offset, Tensor bounds, Tensor dy, Tensor dh_last, "
    "bool softplus) -> Tensor[]"
)


def _fake_backward(*given: Any) -> list[Tensor]:
    *tensors, _, _, _, _ = given
    shapes = _gradient_shapes(tensors, 1)
    x, A, B = tensors[0], tensors[2], tensors[3]
    final = {"A": A.shape, "B": B.shape, "C": B.shape, "D": shapes["D"][1:]}
    final |= {name: shapes[name][1:] for name in ("dt_bias", "y_offset")}
    if tensors[9] is not None:
        final["h_offset"] = A.shape
    return [x.new_empty(final.get(name, shapes[name])) for name in _ORDER]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, softplus, _ = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.softplus = softplus


@once("the selective scan")
def _autograd(ctx: Any, dy: Tensor, dh_last: Tensor, _: Tensor) -> tuple[Any, ...]:
    *tensors, bounds = ctx.saved_tensors
    if dy.stride(-1) != 1:
        dy = dy.contiguous()
    gradients = torch.ops.ssmith.selective_scan_backward(
        *tensors, bounds, dy, dh_last.contiguous(), ctx.softplus
    )
    wanted = [
        gradient if tensor is not None else None
        for tensor, gradient in zip(tensors, gradients, strict=True)
    ]
    return (*wanted, None, None)


_op = torch.library.custom_op(
    "ssmith::selective_scan", _forward, mutates_args=(), device_types="cpu", schema=_SCHEMA
)
_op.register_fake(lambda *given: _outputs(given[0], given[2], given[-1], given[0].new_empty))
_op.register_autograd(_autograd, setup_context=_setup_context)
torch.library.custom_op(
    "ssmith::selective_scan_backward", _backward, mutates_args=(), device_types="cpu",
    schema=_BACKWARD_SCHEMA,
).register_fake(_fake_backward)  # fmt: skip
