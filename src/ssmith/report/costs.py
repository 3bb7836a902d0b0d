"""What the model costs before and after: time, memory, bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ssmith.core.receipt import Receipt
from ssmith.core.times import Times
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
        ratio: after over before as far as it counts (of times: see `Times`); None if it was not
            measured, or was nothing before.
    """

    label: str
    unit: str
    pair: Pair | None
    before: str
    after: str
    change: str
    ratio: float | None = None


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
    times = _times(receipt, key, found)
    return Cost(
        label=label,
        unit="s",
        pair=found,
        before=seconds(found.before),
        after=seconds(found.after),
        change="no ratio" if times is None else faster(times),
        ratio=None if times is None else times.ratio,
    )


def _times(receipt: Receipt, key: str, medians: Pair) -> Times | None:
    """Return a duration with its least samples, as far as they are times."""
    if min(medians.before, medians.after) <= 0:
        return None
    before, after = (
        min(filter(_is_time, items(receipt.speed, key, "samples", side)), default=None)
        for side in ("before", "after")
    )
    least = None if before is None or after is None else (float(before), float(after))
    return Times(medians=(medians.before, medians.after), least=least)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


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
        ratio=found.ratio,
    )
