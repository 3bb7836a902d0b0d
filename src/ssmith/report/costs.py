"""What the model costs before and after: time, memory, bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ssmith.core.receipt import Receipt
from ssmith.report.look import Pair, items, number, pair, text
from ssmith.report.numbers import (
    NOT_MEASURED,
    Format,
    count,
    faster,
    seconds,
    size,
    smaller,
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One cost.

    Args:
        label: what it is.
        unit: unit of the raw values.
        pair: raw values, or None if it was not measured.
        before: value before, in words.
        after: value after, in words.
        change: the change in words, or why there is none.
    """

    label: str
    unit: str
    pair: Pair | None
    before: str
    after: str
    change: str


def read_speed(receipt: Receipt) -> list[Cost]:
    """Return the three latencies."""
    speed = receipt.speed
    batch = number(speed, "batch_size")
    whole = "one batch" if batch is None else f"one batch of {count(batch)}"
    return [
        _time(receipt, "per_batch", whole),
        _time(receipt, "state_space_per_batch", "of it, state space part"),
        _time(receipt, "per_step", "one step, streaming"),
    ]


def read_memory(receipt: Receipt) -> list[Cost]:
    """Return peak memory and the memory one sequence's state takes."""
    memory = receipt.memory
    return [
        _size("peak of a forward pass", pair(memory, "peak_forward_bytes"), "bytes", size),
        _size("state of one sequence", pair(memory, "state_bytes_per_sequence"), "bytes", size),
    ]


def read_size(receipt: Receipt) -> list[Cost]:
    """Return bytes on disk and parameters."""
    return [
        _size("file", pair(receipt.size, "bytes"), "bytes", size),
        _size("parameters", pair(receipt.size, "parameters"), "parameters", count),
    ]


def _time(receipt: Receipt, key: str, label: str) -> Cost:
    found = pair(receipt.speed, key)
    if found is None:
        why = text(receipt.speed, key, "why")
        missing = f"not available: {why}" if why else NOT_MEASURED
        return Cost(label=label, unit="s", pair=None, before="–", after="–", change=missing)
    return Cost(
        label=label,
        unit="s",
        pair=found,
        before=seconds(found.before),
        after=seconds(found.after),
        change=_changed(
            found,
            items(receipt.speed, key, "samples", "before"),
            items(receipt.speed, key, "samples", "after"),
        ),
    )


def _changed(medians: Pair, before: list[Any], after: list[Any]) -> str:
    """Say in words how a duration changed: by its median or its least, whichever says less."""
    least = [
        min((value for value in side if _is_time(value)), default=0) for side in (before, after)
    ]
    if medians.before <= 0 or min(least) <= 0:
        return faster(medians.before, medians.after)
    ratios = (medians.after / medians.before, least[1] / least[0])
    if (ratios[0] - 1) * (ratios[1] - 1) <= 0:
        return "no gain (medians and least times disagree)"
    return faster(1.0, min(ratios, key=lambda ratio: abs(math.log(ratio))))


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _size(label: str, found: Pair | None, unit: str, shown: Format) -> Cost:
    if found is None:
        return Cost(label=label, unit=unit, pair=None, before="–", after="–", change=NOT_MEASURED)
    return Cost(
        label=label,
        unit=unit,
        pair=found,
        before=shown(found.before),
        after=shown(found.after),
        change=smaller(found.before, found.after),
    )
