"""Quality, size, latency and cost of every version of a line, on one scale where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ssmith.core.receipt import Receipt
from ssmith.report.look import flag, mapping, number, text


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What is known of one version.

    Args:
        metric: name of the quality.
        higher_is_better: which way it improves.
        quality: its value on the test split.
        interval: of that value.
        difference: to the version it was made from, on the same rows.
        difference_interval: of that difference.
        size: bytes on disk.
        latency: seconds per batch.
        cost: per month, an estimate.
        saved: per month against the version it was made from, an estimate.
        currency: of cost and saving.
        removed: unit → count before and after the cut that made it.
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
    quality, after = receipt.quality, side == "after"
    return Measures(
        metric=text(quality, "metric"),
        higher_is_better=flag(quality, "higher_is_better") is not False,
        quality=number(quality, side, "value"),
        interval=_ends(receipt, side),
        difference=number(quality, "difference", "value") if after else None,
        difference_interval=_ends(receipt, "difference") if after else None,
        size=number(receipt.size, "bytes", side),
        latency=number(receipt.speed, "per_batch", side),
        cost=number(receipt.saving, "cost_per_month", side),
        saved=number(receipt.saving, "saved_per_month") if after else None,
        currency=text(receipt.saving, "currency"),
        removed=_removed(receipt) if after else (),
    )


def _ends(receipt: Receipt, key: str) -> tuple[float, float] | None:
    low, high = number(receipt.quality, key, "low"), number(receipt.quality, key, "high")
    return None if low is None or high is None else (low, high)


def _removed(receipt: Receipt) -> tuple[tuple[str, int, int], ...]:
    found = []
    for unit in receipt.removed:
        section = mapping(receipt.removed, unit)
        before, after = number(section, "before"), number(section, "after")
        if before is not None and after is not None:
            found.append((unit, int(before), int(after)))
    return tuple(found)


def _bytes(directory: Path) -> int:
    return sum(item.stat().st_size for item in directory.rglob("*") if item.is_file())
