"""One writer at a time: a lock that the system takes back from a process that dies."""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ssmith.core.errors import InputError, SsmithError

LOCK = ".ssmith-lock"
_PAUSE = 0.02


class BusyError(SsmithError, TimeoutError):
    """Somebody else is writing; the same command may do later."""

    exit_code = 75


@contextmanager
def writing(line: Path, *, wait: float, who: str) -> Iterator[None]:
    """Hold the lock of a line, as ``who``; raises `BusyError` if it is not free in that time."""
    if not 0 <= wait < math.inf:
        raise InputError(f"a wait of {wait} seconds", allowed="a number ≥ 0")
    descriptor = os.open(line / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _take(descriptor, line, wait)
        # For people only: what counts is the lock, which outlives nobody. A full disk may refuse.
        with suppress(OSError):
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{who}, process {os.getpid()}".encode(), 0)
        try:
            yield
        finally:
            with suppress(OSError):
                os.truncate(descriptor, 0)
    finally:
        os.close(descriptor)


@contextmanager
def if_free(line: Path) -> Iterator[bool]:
    """Hold the lock if nobody does and we may; say whether."""
    try:
        descriptor = os.open(line / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        yield False
        return
    try:
        yield _taken(descriptor)
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take(descriptor: int, line: Path, wait: float) -> None:
    until = time.monotonic() + wait
    while not _taken(descriptor):
        if time.monotonic() >= until:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace")
            raise BusyError(
                f"{line} is being written by {holder or 'somebody else'}, and was after "
                f"{wait:g} seconds, too",
                next_step="run the command again when that is done; nothing was changed",
            )
        time.sleep(_PAUSE)
