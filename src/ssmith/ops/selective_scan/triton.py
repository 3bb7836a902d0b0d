"""The selective scan on a GPU: launches of the Triton kernels and their gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ssmith.core.optional import require
from ssmith.ops.once import once
from ssmith.ops.selective_scan.inputs import ScanInputs

EVERY = 16
"""States are kept before every so many steps for the backward."""

_KERNELS = "ssmith.ops.selective_scan.triton_kernels"
_OVER_TIME = ("x", "dt", "B", "C", "z")
_OVER_STATES = ("A", "h0", "h_offset")
_ORDER = ("x", "dt", "A", "B", "C", "D", "z", "dt_bias", "h0", "h_offset")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How the kernels are laid out on a GPU; results do not depend on it beyond rounding.

    Args:
        channels: channels of one program, a power of two.
        warps: warps of one program of the scan.
        steps: steps whose inputs are requested together; divides 16.
        gradient_channels: channels of one program of the gradients.
        gradient_warps: warps of one program of the gradients.
        programs: time is cut into stretches until about this many programs run at once.
        shortest: steps of a stretch, at least.
    """

    channels: int = 32
    warps: int = 1
    steps: int = 8
    gradient_channels: int = 32
    gradient_warps: int = 1
    programs: int = 2048
    shortest: int = 128

    def stretches(self, b: int, length: int, channels: int) -> tuple[int, int]:
        """Return how many stretches time is cut into, and the steps of each."""
        at_once = b * -(-channels // self.channels)
        count = max(1, min(self.programs // at_once, length // self.shortest))
        span = -(-length // count)
        span = -(-span // EVERY) * EVERY
        return -(-length // span), span


def selective_scan_triton(
    inputs: ScanInputs, launch: Launch | None = None
) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b e n"]]:
    """Compute what `selective_scan_reference` does, in float32, on a GPU."""
    inputs.check()
    inputs = inputs.expanded()
    require("triton", extra="gpu", purpose="the scan on a GPU")
    if inputs.y_offset is not None:
        # The kernels have no place for it: it comes between their output and the gate.
        y, h_last = selective_scan_triton(replace(inputs, z=None, y_offset=None), launch)
        y = y + inputs.y_offset.to(y.dtype)
        return (y if inputs.z is None else y * functional.silu(inputs.z)), h_last
    given = {name: getattr(inputs, name) for name in _ORDER}
    if inputs.valid is not None:
        dt = inputs.dt if inputs.dt_bias is None else inputs.dt + inputs.dt_bias
        nothing = -torch.inf if inputs.dt_softplus else 0.0
        given["dt"] = dt.masked_fill(~inputs.valid[:, :, None], nothing)
        given["dt_bias"] = None
    tensors = [None if value is None else _prepare(name, value) for name, value in given.items()]
    launch = Launch() if launch is None else launch
    y, h_last = _Scan.apply(launch, inputs.dt_softplus, *tensors)  # type: ignore[no-untyped-call]
    return y.to(inputs.x.dtype), h_last.mT


def _prepare(name: str, tensor: Tensor) -> Tensor:
    if name in _OVER_STATES:
        return tensor.float().mT.contiguous()
    if name in _OVER_TIME:
        return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
    return tensor.float().contiguous()


class _Sizes:
    """Sizes of one call and the grids that follow from them."""

    def __init__(self, launch: Launch, x: Tensor, A: Tensor) -> None:
        self.b, self.length, self.e = x.shape
        self.n = A.shape[0]
        self.launch = launch
        self.count, self.span = launch.stretches(self.b, self.length, self.e)
        self.chunks = -(-self.length // EVERY)
        self.tile = 1 << (self.n - 1).bit_length()

    def grid(self, channels: int) -> tuple[int, int, int]:
        """Return the grid over blocks of channels, sequences and stretches."""
        return (-(-self.e // channels), self.b, self.count)

    def numbers(self) -> tuple[int, int, int, int]:
        """Return what every kernel takes after its tensors and strides."""
        return self.length, self.e, self.n, self.span


def _float32(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.float32)


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for tensor in tensors for stride in tensor.stride()[:2]]


class _Scan(torch.autograd.Function):
    """The kernels as one differentiable function."""

    @staticmethod
    def forward(
        ctx: Any, launch: Launch, softplus: bool, *tensors: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        given = dict(zip(_ORDER, tensors, strict=True))
        keep = any(ctx.needs_input_grad)
        y, h_last, bounds = _run_forward(launch, softplus, given, keep)
        ctx.launch, ctx.softplus = launch, softplus
        ctx.save_for_backward(*tensors, bounds)
        return y, h_last

    @staticmethod
    @once("the selective scan")
    def backward(ctx: Any, dy: Tensor, dh_last: Tensor) -> tuple[Any, ...]:
        *tensors, bounds = ctx.saved_tensors
        given = dict(zip(_ORDER, tensors, strict=True))
        dy = dy if dy.stride(-1) == 1 else dy.contiguous()
        saved = (bounds, dy, dh_last.float().contiguous())
        made = _run_backward(ctx.launch, ctx.softplus, given, saved)
        found = [
            None if tensor is None else made[name].to(tensor.dtype)
            for name, tensor in given.items()
        ]
        return (None, None, *found)


def _run_forward(
    launch: Launch, softplus: bool, given: dict[str, Any], keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    kernels = import_module(_KERNELS)
    x, dt, A, B, C = (given[name] for name in ("x", "dt", "A", "B", "C"))
    z = x if given["z"] is None else given["z"]
    sizes = _Sizes(launch, x, A)
    b, n, e = sizes.b, sizes.n, sizes.e
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    last = _float32(x, b, sizes.count, n, e)
    bounds = _float32(x, b, sizes.chunks if keep else 0, n, e)
    start = torch.zeros_like(last[:, 0]) if given["h0"] is None else given["h0"]

    def run(begin: Tensor, out: Tensor, *, summary: bool) -> None:
        kernels.forward[sizes.grid(launch.channels)](
            x, dt, B, C, z, A, *(given[name] for name in ("D", "dt_bias")), begin,
            given["h_offset"], out, last, bounds, *_strides(x, dt, B, C, z), *sizes.numbers(),
            HAS_D=given["D"] is not None, HAS_Z=given["z"] is not None,
            HAS_BIAS=given["dt_bias"] is not None, HAS_OFFSET=given["h_offset"] is not None,
            SOFTPLUS=softplus, KEEP=keep and not summary, SUMMARY=summary, STATE=sizes.tile,
            CHANNELS=launch.channels, STEPS=launch.steps, EVERY=EVERY,
            num_warps=launch.warps,
        )  # fmt: skip

    if sizes.count > 1:
        sums = _float32(x, b, sizes.count, e)
        run(torch.zeros_like(last), sums, summary=True)
        start = _join(sizes, last, sums, A, start, reverse=False)
    run(start, y, summary=False)
    return y, last[:, -1], bounds


def _join(
    sizes: _Sizes, local: Tensor, sums: Tensor, A: Tensor, start: Tensor, *, reverse: bool
) -> Tensor:
    kernels = import_module(_KERNELS)
    joined = torch.empty_like(local)
    channels = 128
    kernels.join[(-(-sizes.e // channels), sizes.b, sizes.n)](
        local, sums, A, start, joined, sizes.count, sizes.e, sizes.n,
        REVERSE=reverse, CHANNELS=channels, num_warps=4,
    )  # fmt: skip
    return joined


def _run_adjoint(
    sizes: _Sizes, softplus: bool, given: dict[str, Any], dy: Tensor, dh_last: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the first state, and what reaches every kept state from later on."""
    kernels = import_module(_KERNELS)
    launch = sizes.launch
    dt, A, C = (given[name] for name in ("dt", "A", "C"))
    z = dy if given["z"] is None else given["z"]
    first = _float32(dy, sizes.b, sizes.count, sizes.n, sizes.e)
    carries = _float32(dy, sizes.b, sizes.chunks, sizes.n, sizes.e)
    sums = _float32(dy, sizes.b, sizes.count, sizes.e)

    def run(begin: Tensor, *, summary: bool) -> None:
        kernels.adjoint[sizes.grid(launch.channels)](
            dt, C, z, dy, A, given["dt_bias"], begin, first, carries, sums,
            *_strides(dt, C, z, dy), *sizes.numbers(),
            HAS_Z=given["z"] is not None, HAS_BIAS=given["dt_bias"] is not None,
            SOFTPLUS=softplus, SUMMARY=summary, STATE=sizes.tile, CHANNELS=launch.channels,
            STEPS=launch.steps, EVERY=EVERY, num_warps=launch.warps,
        )  # fmt: skip

    start = dh_last
    if sizes.count > 1:
        run(torch.zeros_like(first), summary=True)
        start = _join(sizes, first, sums, A, dh_last, reverse=True)
    run(start, summary=False)
    return first[:, 0], carries


def _run_backward(
    launch: Launch, softplus: bool, given: dict[str, Any], saved: tuple[Tensor, Tensor, Tensor]
) -> dict[str, Tensor]:
    kernels = import_module(_KERNELS)
    x, dt, A, B, C = (given[name] for name in ("x", "dt", "A", "B", "C"))
    z = x if given["z"] is None else given["z"]
    bounds, dy, dh_last = saved
    sizes = _Sizes(launch, x, A)
    dh0, carries = _run_adjoint(sizes, softplus, given, dy, dh_last)
    grid = sizes.grid(launch.gradient_channels)
    over_time, sums = (sizes.b, sizes.length, sizes.e), (grid[0], sizes.b, sizes.length, sizes.n)
    over_states, over_channels = (sizes.b, grid[2], sizes.n, sizes.e), (sizes.b, grid[2], sizes.e)
    shapes = {
        "x": over_time, "dt": over_time, "z": over_time if given["z"] is not None else (0,),
        "A": over_states, "B": sums, "C": sums, "D": over_channels, "dt_bias": over_channels,
        "h_offset": over_states if given["h_offset"] is not None else (0,),
    }  # fmt: skip
    made = {
        name: torch.empty_like(given[name], memory_format=torch.contiguous_format)
        if name in ("x", "dt", "z") and given[name] is not None
        else _float32(x, *shape).zero_()
        if name in ("A", "h_offset")
        else _float32(x, *shape)
        for name, shape in shapes.items()
    }
    kernels.gradients[grid](
        x, dt, B, C, z, dy, A, *(given[name] for name in ("D", "dt_bias", "h_offset")), bounds,
        carries, *(made[name] for name in ("x", "dt", "z", "A", "B", "C")),
        *(made[name] for name in ("D", "dt_bias", "h_offset")),
        *_strides(x, dt, B, C, z, dy), *sizes.numbers(),
        HAS_D=given["D"] is not None, HAS_Z=given["z"] is not None,
        HAS_BIAS=given["dt_bias"] is not None, HAS_OFFSET=given["h_offset"] is not None,
        SOFTPLUS=softplus, CHANNELS=launch.gradient_channels, STEPS=EVERY,
        num_warps=launch.gradient_warps,
    )  # fmt: skip
    for name in ("A", "D", "dt_bias", "h_offset"):
        made[name] = made[name].sum((0, 1)) if made[name].numel() else made[name]
    return made | {"B": made["B"].sum(0), "C": made["C"].sum(0), "h0": dh0}
