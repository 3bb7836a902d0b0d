"""Text that any page, plot and terminal can show."""

from __future__ import annotations

import re
from typing import Any

# XML and HTML have no place for control characters, UTF-8 none for lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def text(value: Any) -> str:
    """Return a printable string, empty if there is none; the items of a list are joined."""
    if isinstance(value, list | tuple):
        return ", ".join(map(printable, value))
    return "" if value is None else printable(value)


def printable(value: Any) -> str:
    """Return ``value`` as text that any XML or UTF-8 reader accepts."""
    return _UNPRINTABLE.sub("\ufffd", str(value))


def shorten(value: Any, limit: int) -> str:
    """Return one line of at most ``limit`` characters; the middle gives way."""
    line = " ".join(printable(value).split())
    if len(line) <= limit:
        return line
    tail = (limit - 1) // 2
    return f"{line[: limit - 1 - tail]}…{line[len(line) - tail :]}"
