"""How much memory a walk will need, before it begins."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from ssmith.core.tokens import TokenWindows

_FLOAT, _DOUBLE = 4, 8


@dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """What the memory of a walk depends on: width, inner channels, states, and bytes."""

    m: int
    e: int
    n: int
    model_bytes: int
    block_bytes: int


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """Bytes a walk will need at its peak, by what they are for. An estimate, not a bound."""

    weights: int
    activations: int
    kept: int
    batch: int
    statistics: int
    disk: int

    @property
    def memory(self) -> int:
        """Bytes of memory at the peak, beside what Python and torch take themselves."""
        return self.weights + self.activations + self.kept + self.batch + self.statistics

    def as_dict(self) -> dict[str, int]:
        """Return a JSON-ready dict."""
        return {**asdict(self), "memory": self.memory}


def preflight(
    sizes: BlockSizes,
    windows: TokenWindows,
    *,
    batch_size: int,
    kept_bytes: int,
    on_disk: bool,
    blocks_from_disk: bool,
    statistics: int,
) -> Preflight:
    """Estimate the memory a walk needs.

    ``batch_size`` is that of all windows for a method in lockstep; ``statistics`` counts the
    numbers one stage sums per layer.
    """
    steps = windows.ids.shape[1]
    hidden = len(windows) * steps * sizes.m * _FLOAT
    rows = min(batch_size, len(windows))
    # Input, normed input and output; both halves of in_proj, convolved x, Δ, and the scan's output.
    flows = rows * steps * (4 * sizes.m + 7 * sizes.e + 4 * sizes.n) * _FLOAT
    # The batch's own sums, the running ones, and up to three finished branches of the tree.
    sums = 5 * statistics * _DOUBLE
    weights = 2 * sizes.block_bytes if blocks_from_disk else sizes.model_bytes
    return Preflight(
        weights=weights,
        activations=0 if on_disk else hidden,
        kept=min(kept_bytes, 2 * len(windows) * steps * sizes.e * _FLOAT),
        batch=flows + (rows * steps * sizes.m * _FLOAT if on_disk else 0),
        statistics=sums,
        disk=2 * hidden + sizes.model_bytes if on_disk else 0,
    )


def free_memory() -> int | None:
    """Return the bytes of memory this machine has left, or None if it does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
