"""How much memory this process really held while something ran."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ssmith.core.sections import Resident

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
# Linux forgets the highest resident size so far when a process writes this there.
_FORGET = "5"
_SINCE_NOW = "most resident bytes of this process while it ran, Python and torch included"
_SINCE_START = "most resident bytes of this process since it started, Python and torch included"


@dataclass
class ResidentPeak:
    """Most resident bytes until the ``with`` is left, and ``how`` that was measured.

    None where the system does not say.
    """

    before: int | None = None
    peak: int | None = None
    how: str = ""

    def section(self) -> Resident:
        """Return it for a receipt; empty where nothing was measured."""
        if self.peak is None:
            return Resident()
        return Resident(before=self.before, peak=self.peak, how=self.how)


@contextmanager
def resident_peak() -> Iterator[ResidentPeak]:
    """Measure the most memory this process holds inside the ``with``."""
    forgot = _forget()
    found = ResidentPeak(before=_status("VmRSS"))
    yield found
    found.peak = _status("VmHWM") if forgot else _since_start()
    if found.before is not None and found.peak is not None:
        # The two are counted apart, and may differ by some pages where nothing happens between.
        found.peak = max(found.peak, found.before)
    found.how = _SINCE_NOW if forgot else _SINCE_START


def _forget() -> bool:
    try:
        _CLEAR.write_text(_FORGET, encoding="ascii")
    except OSError:
        return False
    return _status("VmHWM") is not None


def _status(name: str) -> int | None:
    """Return one of the sizes Linux tells of a process, in bytes."""
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(sizes[0]) if sizes else None


def _since_start() -> int | None:
    try:
        resource: Any = import_module("resource")
    except ImportError:
        return None
    highest = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    # macOS counts bytes, everyone else KiB.
    return highest if sys.platform == "darwin" else 1024 * highest
