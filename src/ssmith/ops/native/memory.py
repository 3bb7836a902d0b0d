"""Memory of large outputs, asked for in large pages."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from functools import cache

from torch import Tensor

from ssmith.ops.native.structs import address

_PAGE = 2 * 2**20
_SMALLEST = 2 * _PAGE


def written(tensor: Tensor) -> int:
    """Return the address of an output that a kernel is about to write all of.

    Memory that is new to the process costs a page fault per 4 KiB when it is first written, which
    can take longer than a scan's own work. Linux gives 2 MiB at a time where a program asks it to
    for some memory: here for the inside of this tensor and nothing else; whoever is given that
    memory after it finds it so. Where the system gives no large pages nothing happens.
    """
    start, size = address(tensor), tensor.numel() * tensor.element_size()
    if size >= _SMALLEST:
        first, last = -(-start // _PAGE) * _PAGE, (start + size) // _PAGE * _PAGE
        _advise()(first, last - first)
    return start


@cache
def _advise() -> Callable[[int, int], object]:
    """Return what asks for large pages from an address on, over some bytes."""
    if not sys.platform.startswith("linux"):
        return lambda address, size: None
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return lambda address, size: madvise(address, size, mmap.MADV_HUGEPAGE)
