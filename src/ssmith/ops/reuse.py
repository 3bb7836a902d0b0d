"""Memory of large outputs that a loop takes again, rather than anew."""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

SMALLEST = 4 * 2**20
"""Bytes below which an allocator keeps freed memory by itself, or a fault costs little."""


class _Pool:
    """Blocks of memory that come back when the last tensor in them is gone."""

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []
        self._closed = False

    def take(self, size: int) -> memoryview:
        """Return at least ``size`` bytes, of the smallest free block that holds them."""
        fitting = [block for block in self._free if len(block) >= size]
        if fitting:
            block = min(fitting, key=len)
            self._free.remove(block)
        else:
            # What is free is too small for what is asked for now: together they would be more than
            # was ever in use at once.
            self._free.clear()
            block = mmap.mmap(-1, size)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                block.madvise(mmap.MADV_HUGEPAGE)
        view = memoryview(block)
        weakref.finalize(view, self._give_back, block).atexit = False
        return view

    def close(self) -> None:
        """Let go of what is free now, and of the rest as it becomes free."""
        self._closed = True
        self._free.clear()

    def _give_back(self, block: mmap.mmap) -> None:
        if not self._closed:
            self._free.append(block)


_POOL: ContextVar[_Pool | None] = ContextVar("_POOL", default=None)


@contextmanager
def reused_memory() -> Iterator[None]:
    """Let large outputs inside take the memory of those before them that are gone.

    Memory that is new to a process costs a page fault where it is first written, which takes longer
    than a convolution of it; the system's allocator gives large blocks back at once and takes them
    anew (`tune_allocator_` changes that for all of a process). Nothing else is changed by this, and
    what is left is given back at the end; tensors may outlive it.
    """
    if _POOL.get() is not None:
        yield
        return
    pool = _Pool()
    token = _POOL.set(pool)
    try:
        yield
    finally:
        _POOL.reset(token)
        pool.close()


def empty(shape: Sequence[int]) -> Tensor:
    """Return a float32 tensor that is yet to be written, inside `reused_memory` in used memory."""
    pool, count = _POOL.get(), math.prod(shape)
    if pool is None or 4 * count < SMALLEST:
        return torch.empty(shape, dtype=torch.float32)
    return torch.frombuffer(pool.take(4 * count), dtype=torch.float32, count=count).view(shape)


def linear(
    x: Float[Tensor, "... i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, "o"] | None = None
) -> Float[Tensor, "... o"]:
    """Return what `torch.nn.functional.linear` does, inside `reused_memory` in used memory.

    Memory is new where a gradient is tracked, and for anything but float32 on the CPU.
    """
    given = [item for item in (x, weight, bias) if item is not None]
    plain = all(item.dtype == torch.float32 and item.device.type == "cpu" for item in given)
    tracked = torch.is_grad_enabled() and any(item.requires_grad for item in given)
    if _POOL.get() is None or not plain or tracked or torch.is_autocast_enabled("cpu"):
        return functional.linear(x, weight, bias)
    out = empty((*x.shape[:-1], weight.shape[0]))
    flat, rows = x.reshape(-1, x.shape[-1]), out.view(-1, weight.shape[0])
    if bias is None:
        torch.mm(flat, weight.T, out=rows)
    else:
        torch.addmm(bias, flat, weight.T, out=rows)
    return out
