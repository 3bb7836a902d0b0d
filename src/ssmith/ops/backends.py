"""Which path an operation takes, and why: queryable, forcible, never silent."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.words import number_of
from ssmith.ops.native import library, why_missing

Backend = Literal["reference", "torch", "native", "triton"]
Op = Literal[
    "selective_scan", "selective_step", "mixer_step", "causal_conv", "ssd", "diagonal_scan"
]

_SUPPORTED: dict[Op, tuple[Backend, ...]] = {
    "selective_scan": ("reference", "torch", "native", "triton"),
    "selective_step": ("reference", "native"),
    "mixer_step": ("reference", "native"),
    "causal_conv": ("reference", "native"),
    "ssd": ("reference", "torch", "native"),
    "diagonal_scan": ("reference", "torch", "native"),
}
_NATIVE_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.complex64)
_forced: ContextVar[Backend | None] = ContextVar("forced_backend", default=None)
_warned: set[str] = set()


class SlowPathWarning(UserWarning):
    """A fast path exists for this work, but not in this installation."""


@dataclass(frozen=True, kw_only=True)
class PathChoice:
    """The path one operation takes.

    ``reason`` says why this one, ``remedy`` what would make it faster; empty where nothing would.
    """

    op: Op
    backend: Backend
    reason: str
    remedy: str = ""


def choose(op: Op, like: Tensor) -> PathChoice:
    """Return the path ``op`` takes for tensors of ``like``'s device and dtype, and why."""
    return _choose(op, like.device.type, like.dtype)


def _choose(op: Op, device: str, dtype: torch.dtype) -> PathChoice:
    forced = _forced.get()
    if forced is not None:
        # Where an operation lacks the forced path, its definition is the nearest thing to judge by.
        given = forced if forced in _SUPPORTED[op] else "reference"
        return PathChoice(op=op, backend=given, reason=f"forced by use_backend({forced!r})")
    if device == "cpu" and "native" in _SUPPORTED[op]:
        return _choose_on_cpu(op, dtype)
    plain = _plain(op)
    if device != "cuda" or "triton" not in _SUPPORTED[op] or dtype == torch.float64:
        return PathChoice(op=op, backend=plain, reason=f"the only path for {dtype} on {device}")
    if find_spec("triton") is None:
        return PathChoice(op=op, backend=plain, reason="no triton", remedy="pip install triton")
    return PathChoice(op=op, backend="triton", reason="the tensors are on a GPU")


def _plain(op: Op) -> Backend:
    return "torch" if "torch" in _SUPPORTED[op] else "reference"


def _choose_on_cpu(op: Op, dtype: torch.dtype) -> PathChoice:
    if dtype not in _NATIVE_DTYPES:
        reason = f"the CPU kernels do not compute in {dtype}"
        return PathChoice(op=op, backend=_plain(op), reason=reason)
    kernels = library()
    if kernels is None:
        remedy = "install a wheel for this platform, or install a C++ compiler and reinstall ssmith"
        return PathChoice(op=op, backend=_plain(op), reason=why_missing(), remedy=remedy)
    threads = torch.get_num_threads() if kernels.has_threads else 1
    reason = f"{kernels.level} kernels, {number_of(threads, 'thread')}"
    return PathChoice(op=op, backend="native", reason=reason)


def chosen(op: Op, like: Tensor) -> Backend:
    """Return the path of `choose`, and warn once per operation where it is the slow one."""
    if torch.compiler.is_compiling():
        return _chosen_while_compiling(op, like.device.type, like.dtype)
    return _chosen(op, like.device.type, like.dtype)


def _chosen(op: Op, device: str, dtype: torch.dtype) -> Backend:
    # The common case, without the words: it is asked several times per layer and token.
    plain_case = _forced.get() is None and device == "cpu" and dtype in _NATIVE_DTYPES
    if plain_case and "native" in _SUPPORTED[op] and library() is not None:
        return "native"
    choice = _choose(op, device, dtype)
    if choice.remedy and op not in _warned:
        _warned.add(op)
        warnings.warn(
            f"{op} takes the slow path {choice.backend!r}: {choice.reason}. {choice.remedy}.",
            SlowPathWarning,
            stacklevel=4,
        )
    return choice.backend


def _chosen_while_compiling(op: Op, device: str, dtype: torch.dtype) -> Backend:
    """A compiled program keeps the path that was chosen when it was compiled."""
    return _chosen(op, device, dtype)


# What `torch.compiler.assume_constant_result` does, which would load all of the compiler: longer
# than everything else that a command loads.
_chosen_while_compiling._dynamo_marked_constant = True  # type: ignore[attr-defined]


def describe(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> list[PathChoice]:
    """Return the path of every operation for one device and dtype."""
    like = torch.empty(0, device=device, dtype=dtype)
    return [choose(op, like) for op in get_args(Op)]


def available(op: Op, device: torch.device | str = "cpu") -> tuple[Backend, ...]:
    """Return the paths that can run ``op`` on a device in float32, the reference first."""
    kind = torch.device(device).type
    usable = {
        "reference": True,
        "torch": True,
        "native": kind == "cpu" and library() is not None,
        "triton": kind == "cuda" and find_spec("triton") is not None,
    }
    return tuple(backend for backend in _SUPPORTED[op] if usable[backend])


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Take one path inside the block; operations that lack it take their reference."""
    if backend not in get_args(Backend):
        raise InputError(f"backend {backend!r}", allowed=", ".join(get_args(Backend)))
    if backend == "native" and library() is None:
        raise UnsupportedError("the CPU kernels are not here: " + why_missing())
    token = _forced.set(backend)
    try:
        yield
    finally:
        _forced.reset(token)


def require_backend(op: Op, backend: Backend, like: Tensor) -> None:
    """Raise `UnsupportedError` unless ``op`` takes the named path for tensors like this one."""
    choice = choose(op, like)
    if choice.backend != backend:
        raise UnsupportedError(
            f"{op} would run on {choice.backend!r} ({choice.reason}), not on {backend!r}",
            next_step=choice.remedy or "choose tensors that path supports",
        )
