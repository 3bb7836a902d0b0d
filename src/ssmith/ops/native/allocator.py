"""An explicit, process-wide choice: keep freed memory instead of giving it back to the system."""

from __future__ import annotations

import ctypes
import sys

from ssmith.core.errors import UnsupportedError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1
_TOP_PAD = 64 * 2**20


def tune_allocator_() -> None:
    """Let glibc keep freed blocks for reuse, for the rest of this process.

    A fresh block of memory costs a page fault per 4 KiB when it is first written; large tensors
    are freed and taken anew all the time. This makes CPU inference and training of long sequences
    markedly faster, at the price of a higher resident size. Nothing in ssmith calls it.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        raise UnsupportedError(
            "the memory allocator of this system cannot be tuned", allowed="Linux with glibc"
        )
    for option, value in (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, _LARGEST),
        (_M_TOP_PAD, _TOP_PAD),
    ):
        libc.mallopt(option, value)
