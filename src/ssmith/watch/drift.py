"""Which readings have drifted, since when, and how far: tests that may be repeated for years."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssmith.core.looks import Drifted
from ssmith.core.optional import require
from ssmith.watch.sketch import Counts, Sketch, Values
from ssmith.watch.stream import LookBlock, Stream, table_of

KINDS = ("input", "output", "cut")
"""Kinds of readings; each has its share of the false alarms."""
_NEWEST = 20
"""Rows that say whether a drift goes on."""
_STILL = 0.5
"""Share of a window's excess that the newest rows show if it does."""


@dataclass(frozen=True, kw_only=True)
class Alarms:
    """How often a watch may alarm for nothing, and what it does not mind.

    Args:
        per_year: false alarms in a year of looks at unchanged data, in expectation at most.
        looks_per_year: looks that this is spread over evenly: one an hour.
        least: distances of distributions below this are never an alarm, in [0, 1).
    """

    per_year: float = 0.05
    looks_per_year: int = 8760
    least: float = 0.1

    @property
    def per_look(self) -> float:
        """Probability of a false alarm of one kind at one look, at most."""
        return self.per_year / self.looks_per_year / len(KINDS)


def is_upward(reading: str) -> bool:
    """Whether only larger values are worse: the costs of a cut."""
    return reading.startswith("cut/")


def counted(
    sketches: Mapping[str, Sketch], readings: Mapping[str, Values], since: str, rows: int
) -> LookBlock:
    """Return the counts of one look as a block."""
    counts = {
        name: sketches[name].counts(values) for name, values in readings.items() if name in sketches
    }
    return LookBlock(since=since, looks=1, rows=rows, counts=counts)


def find_drift(
    sketches: Mapping[str, Sketch], stream: Stream, readings: Mapping[str, Values], alarms: Alarms
) -> list[Drifted]:
    """Test every reading over every window of looks; those that drifted most certainly first.

    Each look may alarm for nothing with probability ``per_look`` for each kind, whatever the looks
    before found: over a year these add up to ``per_year``. Within a look, readings and windows of a
    kind are tested together by Benjamini–Hochberg. The stream has this look as its last.
    """
    stats = require("scipy.stats", extra="watch", purpose="a test for drift")
    windows, found = stream.windows(), list[Drifted]()
    for kind in KINDS:
        names = [name for name in windows[0].counts if name.startswith(f"{kind}/")]
        tables = [table_of(windows, name) for name in names]
        chances = [
            sketches[name].chances(table, up=is_upward(name), matters=alarms.per_look)
            for name, table in zip(names, tables, strict=True)
        ]
        if not names:
            continue
        adjusted = stats.false_discovery_control(np.concatenate(chances))
        ends = np.cumsum([len(item) for item in chances])
        for name, table, chance, end in zip(names, tables, chances, ends, strict=True):
            own = adjusted[end - len(chance) : end]
            tested = _Tested(name=name, table=table, chance=chance, adjusted=own)
            found.append(_result(tested, sketches[name], stream, readings[name], alarms))
    return sorted(found, key=lambda item: (not item.alarm, item.p))


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """One reading in every window: its counts, p-values, and these adjusted."""

    name: str
    table: Counts
    chance: Values
    adjusted: Values


def _result(
    tested: _Tested, sketch: Sketch, stream: Stream, values: Values, alarms: Alarms
) -> Drifted:
    name, table, chance, adjusted = tested.name, tested.table, tested.chance, tested.adjusted
    upward = is_upward(name)
    distances, places = sketch.apart(table, up=upward)
    sure = (adjusted <= alarms.per_look) & (distances >= alarms.least)
    sure &= _goes_on(sketch, table, places)
    best = int(np.where(sure, chance, 2.0).argmin()) if sure.any() else int(chance.argmin())
    kind, place, what = name.split("/", 2)
    alarm = bool(sure.any())
    since, row = None, None
    if alarm:
        since, row = changed_at(sketch, int(places[best]), stream.blocks, name, values)
    return Drifted(
        kind=kind, place=place, what=what, alarm=alarm, p=float(chance[best]),
        adjusted=float(adjusted[best]), distance=float(distances[best]),
        moved=sketch.moved(table[best]), before=sketch.mean, now=float(values.mean()),
        rows=int(table[best].sum()), since=since, row=row,
    )  # fmt: skip


def _goes_on(sketch: Sketch, table: Counts, places: Counts) -> NDArray[np.bool_]:
    """Whether the newest rows are still different, at the point where each window is most."""
    excess = table[:, :-1].cumsum(1) - sketch.shares * table.sum(1, keepdims=True)
    here = np.take_along_axis(excess, places[:, None], 1)[:, 0] / table.sum(1)
    newest = int((table.sum(1) >= _NEWEST).argmax())
    now = excess[newest, places] / table[newest].sum()
    still: NDArray[np.bool_] = now * np.sign(here) >= _STILL * np.abs(here)
    return still


def changed_at(
    sketch: Sketch, place: int, blocks: Sequence[LookBlock], name: str, values: Values
) -> tuple[str, int | None]:
    """Return since when a reading has been different: the likeliest point of change.

    Rows up to the point of the grid where the distributions lie furthest apart are counted; the
    change is where the squared excess since then, over the rows since then, is largest. The time of
    the block it began in, and the row if that is the newest look, the last of the blocks.
    """
    share = float(sketch.shares[place])
    old = [item for item in blocks[:-1] if name in item.counts]
    excess = [float(b.counts[name][: place + 1].sum()) - share * b.rows for b in old]
    weights = [float(item.rows) for item in old]
    own = (sketch.places(values) <= place) - share
    scores = np.concatenate([excess, own])[::-1].cumsum()[::-1]
    sizes = np.concatenate([weights, np.ones(len(own))])[::-1].cumsum()[::-1]
    first = int((scores**2 / sizes).argmax())
    if first < len(old):
        return old[first].since, None
    return blocks[-1].since, first - len(old)
