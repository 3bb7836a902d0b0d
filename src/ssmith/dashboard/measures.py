"""Quality, size, latency and cost of every version of a line, on one scale where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ssmith.core.receipt import Receipt
from ssmith.core.sections import Measured, Missing, Pair, Timed
from ssmith.report.look import printable


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is known of one version, on the test split.

    Differences and savings are to the version it was made from, on the same rows; sizes are bytes
    on disk, latencies seconds per batch, costs estimates per month. ``removed`` are counts of each
    unit before and after the cut that made it.
    """

    metric: str = ""
    higher_is_better: bool = True
    quality: float | None = None
    interval: tuple[float, float] | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    size: float | None = None
    latency: float | None = None
    cost: float | None = None
    saved: float | None = None
    currency: str = ""
    removed: tuple[tuple[str, int, int], ...] = ()

    @property
    def share_removed(self) -> float | None:
        """Fraction of the first unit that was removed."""
        if not self.removed or not self.removed[0][1]:
            return None
        _, before, after = self.removed[0]
        return 1 - after / before


def read_measures(
    receipts: Sequence[Receipt | None], directories: Sequence[Path | None]
) -> list[Measures]:
    """Return the measures of every version.

    A version without a receipt of its own is often what another was made from; then it stands
    in that one's receipt under *before*.
    """
    found = []
    for receipt, directory in zip(receipts, directories, strict=True):
        known = Measures() if receipt is None else _side(receipt, "after")
        if receipt is None:
            known = next((_side(later, "before") for later in receipts if later), known)
        if known.size is None and directory is not None and directory.is_dir():
            known = replace(known, size=float(_bytes(directory)))
        found.append(known)
    return found


def _side(receipt: Receipt, side: str) -> Measures:
    quality, saving, after = receipt.compared, receipt.saving, side == "after"
    found = quality.after if after else quality.before
    gap = quality.difference if after else None
    return Measures(
        metric=printable(quality.metric),
        higher_is_better=quality.higher_is_better is not False,
        quality=None if found is None else found.value,
        interval=_ends(found),
        difference=None if gap is None else gap.value,
        difference_interval=_ends(gap),
        size=_of(receipt.size.bytes, side),
        latency=_of(receipt.speed.per_batch, side),
        cost=_of(saving.cost_per_month, side),
        saved=saving.saved_per_month if after else None,
        currency=printable(saving.currency),
        removed=tuple((unit, item.before, item.after) for unit, item in receipt.removed.items())
        if after
        else (),
    )


def _of(found: Pair | Timed | Missing | None, side: str) -> float | None:
    if found is None:
        return None
    return found.after if side == "after" else found.before


def _ends(found: Measured | None) -> tuple[float, float] | None:
    return None if not found or found.low is None or found.high is None else (found.low, found.high)


def _bytes(directory: Path) -> int:
    return sum(item.stat().st_size for item in directory.rglob("*") if item.is_file())
