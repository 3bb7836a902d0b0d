"""Finding, loading and calling the shared library of CPU kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch

from ssmith.core.errors import InputError
from ssmith.ops.native.structs import ABI

LEVELS = ("base", "avx2", "avx512")
_FILE = "ssmith_native.so"
_KERNELS = (
    "scan_forward",
    "scan_backward",
    "conv_forward",
    "conv_backward",
    "step",
    "diagonal",
    "scan_statistics",
    "scan_in_step",
    "votes",
    "mixer_step",
    "ssd_forward",
    "ssd_backward",
)
_forced: ContextVar[int | None] = ContextVar("forced_level", default=None)


class Library:
    """The loaded kernels; `OSError` if they cannot be loaded or were built from other sources."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = ctypes.CDLL(str(path))
        found = int(self._handle.ssmith_abi())
        if found != ABI:
            raise OSError(f"{path} has interface {found}, this version needs {ABI}; rebuild it")
        self.best_level = int(self._handle.ssmith_best_level())
        self.has_threads = bool(self._handle.ssmith_has_threads())
        self._kernels = {name: getattr(self._handle, f"ssmith_{name}") for name in _KERNELS}
        for kernel in self._kernels.values():
            kernel.argtypes = [ctypes.c_int64, ctypes.c_void_p]
            kernel.restype = None

    @property
    def level(self) -> str:
        """The instruction set the next call uses: this processor's best, or the forced one."""
        return LEVELS[self._level()]

    def call(self, kernel: str, args: ctypes.Structure) -> None:
        """Run one kernel; torch's number of threads is `parts` of its arguments."""
        self._kernels[kernel](self._level(), ctypes.addressof(args))

    def _level(self) -> int:
        forced = _forced.get()
        return self.best_level if forced is None else forced


def _places() -> list[Path]:
    """Return where the library may be: beside this file, or where an editable install put it."""
    places = [Path(__file__).parent / _FILE]
    with suppress(PackageNotFoundError):
        installed = distribution("ssmith").locate_file(f"ssmith/ops/native/{_FILE}")
        places.append(Path(str(installed)))
    return places


@cache
def _load() -> Library | str:
    for path in _places():
        if path.exists():
            try:
                return Library(path)
            except OSError as error:
                return f"the kernels could not be loaded: {error}"
    return (
        "this installation has no compiled kernels (no compiler was found when it was built, or "
        "no wheel exists for this platform)"
    )


def library() -> Library | None:
    """Return the kernels, or None where there are none (see `why_missing`)."""
    loaded = _load()
    return loaded if isinstance(loaded, Library) else None


def kernels() -> Library:
    """Return the kernels to an operator that is chosen only where there are some."""
    loaded = library()
    if loaded is None:
        raise RuntimeError("the CPU kernels are not loaded")
    return loaded


def why_missing() -> str:
    """Return why there are no kernels; empty where there are."""
    loaded = _load()
    return loaded if isinstance(loaded, str) else ""


@contextmanager
def force_level(level: str) -> Iterator[None]:
    """Use one instruction set level inside the block, to test a machine that has less."""
    loaded = library()
    best = 0 if loaded is None else loaded.best_level
    if level not in LEVELS[: best + 1]:
        raise InputError(f"level {level!r}", allowed=f"on this processor: {LEVELS[: best + 1]}")
    token = _forced.set(LEVELS.index(level))
    try:
        yield
    finally:
        _forced.reset(token)


def parts() -> int:
    """Return how many threads a kernel uses: as many as torch does."""
    return torch.get_num_threads()


# Below this much work one thread is done before a second one has woken up.
_VALUES_PER_THREAD = 65536


def parts_for(values: int) -> int:
    """Return how many threads a pass over some values is worth."""
    return min(parts(), 1 + values // _VALUES_PER_THREAD)
