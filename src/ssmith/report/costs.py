"""What the model costs before and after: time, memory, bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssmith.core.receipt import Receipt
from ssmith.core.sections import Missing, Pair, Samples, Timed
from ssmith.core.times import Times
from ssmith.report.look import printable
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
    """One cost: raw values in a unit, the same in words, and the change, or why there is none.

    The ratio is after over before as far as it counts (of times: see `Times`); None if it was not
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
    whole = "one batch" if speed.batch_size is None else f"one batch of {count(speed.batch_size)}"
    return [
        _time(speed.per_batch, whole),
        _time(speed.state_space_per_batch, "of it, state space part"),
        _time(speed.per_step, "one step, streaming"),
    ]


def read_memory(receipt: Receipt) -> list[Cost]:
    """Return peak memory and the memory one sequence's state takes."""
    memory = receipt.memory
    return [
        _size("peak of a forward pass", memory.peak_forward_bytes, "bytes", size),
        _size("state of one sequence", memory.state_bytes_per_sequence, "bytes", size),
    ]


def read_size(receipt: Receipt) -> list[Cost]:
    """Return bytes on disk and parameters."""
    return [
        _size("file", receipt.size.bytes, "bytes", size),
        _size("parameters", receipt.size.parameters, "parameters", count),
    ]


def _time(found: Timed | Missing | None, label: str) -> Cost:
    if not isinstance(found, Timed):
        missing = NOT_MEASURED if found is None else f"not available: {printable(found.why)}"
        return Cost(label=label, unit="s", pair=None, before="–", after="–", change=missing)
    times = _times(found)
    return Cost(
        label=label,
        unit="s",
        pair=Pair(before=found.before, after=found.after),
        before=seconds(found.before),
        after=seconds(found.after),
        change="no ratio" if times is None else faster(times),
        ratio=None if times is None else times.ratio,
    )


def _times(found: Timed) -> Times | None:
    """Return a duration with its least samples, as far as they are times."""
    if min(found.before, found.after) <= 0:
        return None
    samples = found.samples or Samples(before=(), after=())
    before, after = (
        min((value for value in side if 0 < value < math.inf), default=None)
        for side in (samples.before, samples.after)
    )
    least = None if before is None or after is None else (before, after)
    return Times(medians=(found.before, found.after), least=least)


def _size(label: str, found: Pair | Missing | None, unit: str, shown: Format) -> Cost:
    if not isinstance(found, Pair):
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
