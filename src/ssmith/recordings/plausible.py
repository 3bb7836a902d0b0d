"""What in recordings may not be what it is taken for: said with its place, left to its owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ssmith.core.findings import Finding
from ssmith.core.words import number_of
from ssmith.data.suspicions import may_be_swapped, of_channel, swapped
from ssmith.recordings.intervals import are_uneven
from ssmith.recordings.recording import Recordings, finding, place_of
from ssmith.recordings.table_files import GUESSED

_STUCK, _STUCK_SHARE = 50, 0.2
_SATURATED, _DIFFERENT = 0.02, 20
_JUMP = 5.0
_RARE, _IMBALANCE = 4, 20
_ARRAYS = (".npz", ".mat", ".json", ".jsonl")


def plausibility(recordings: Recordings) -> tuple[Finding, ...]:
    """Return what looks wrong in recordings as they were read, findings of channels first.

    Values that stand for a gap, times and counters among the channels, channels that stand still,
    are cut off at an end, repeat another or give the label away; steps that are not even, jumps in
    time; axes that may be swapped; labels that are rare.
    """
    values = np.concatenate(recordings.values)
    found = [item for channel in range(values.shape[1])
             for item in _of_channel(recordings, values[:, channel], channel)]  # fmt: skip
    found += _repeated(recordings, values)
    found += _of_times(recordings)
    if recordings.details.get("encoding") == GUESSED:
        name = recordings.path.name
        found.append(finding(
            "encoding",
            f"{name} is no UTF-8 and was read as {GUESSED.upper()}: if names look wrong, convert "
            f"it: iconv -f SHIFT_JIS -t UTF-8 {name}",
        ))  # fmt: skip
    return (*found, *_copied(recordings), *_of_axes(recordings), *_of_labels(recordings))


def _copied(recordings: Recordings) -> Iterator[Finding]:
    """Yield a finding where recordings are the same, number by number."""
    seen: dict[bytes, str] = {}
    copies = []
    for name, values in zip(recordings.names, recordings.values, strict=True):
        first = seen.setdefault(values.tobytes(), name)
        if first is not name:
            copies.append(f"{name!r} of {first!r}")
    if copies:
        yield finding(
            "copied-recordings",
            f"{number_of(len(copies), 'recording')} of {len(recordings.names)} repeat another one, "
            f"the first {copies[0]}: keep one of each",
        )


def _of_axes(recordings: Recordings) -> Iterator[Finding]:
    """Yield a finding where steps may stand as channels; what we make of sound has its order."""
    steps, channels = max(recordings.lengths), len(recordings.channels)
    if not may_be_swapped(steps, channels):
        return
    if recordings.rows is not None:
        yield finding(
            "swapped-axes",
            f"{number_of(channels, 'channel')} over {number_of(steps, 'step')}: if steps "
            "stand in columns, turn the table: a row is a step",
        )
    elif recordings.path.suffix in _ARRAYS:
        yield finding("swapped-axes", swapped(steps, channels))


def _of_channel(
    recordings: Recordings, values: NDArray[np.float64], channel: int
) -> Iterator[Finding]:
    called = f"channel {recordings.channels[channel]!r}"
    seen = values[np.isfinite(values)]
    if not len(seen):
        yield finding("empty-channel", f"{called} holds no value")
        return
    low, high = float(seen.min()), float(seen.max())
    if low == high:
        yield finding("constant", f"{called} is {low:g} at all {len(seen):,} steps: leave it out")
        return
    if all(len(item) > 2 and np.ptp(np.diff(item[:, channel])) == 0 for item in recordings.values):
        yield finding(
            "counter",
            f"{called} counts the steps: leave it out: --ignore {recordings.channels[channel]!r}",
        )
        return
    for message, mark in of_channel(torch.from_numpy(seen), called):
        where = ""
        if mark is not None:
            first = _first(recordings, channel, mark)
            where = f" (--missing {mark:g} does it); the first at {first}"
        yield finding("sentinel" if mark is not None else "times", message + where)
    yield from _stuck(recordings, channel, called)
    if len(np.unique(seen[:10_000])) > _DIFFERENT:
        for end, word in ((low, "lowest"), (high, "highest")):
            count = int((seen == end).sum())
            if count > max(10, _SATURATED * len(seen)):
                yield finding(
                    "saturated",
                    f"{called} is at its {word} value {end:g} at {number_of(count, 'step')}, the "
                    f"first at {_first(recordings, channel, end)}: it may be cut off there",
                )


def _first(recordings: Recordings, channel: int, value: float) -> str:
    for place, values in enumerate(recordings.values):
        here = np.flatnonzero(values[:, channel] == value)
        if len(here):
            return place_of(recordings, place, int(here[0]))
    return "no step"


def _stuck(recordings: Recordings, channel: int, called: str) -> Iterator[Finding]:
    """Yield a finding where a channel that varies stands still for long."""
    longest, where = 0, ""
    for place, values in enumerate(recordings.values):
        column = values[:, channel]
        edges = np.flatnonzero(np.diff(column) != 0) + 1
        starts = np.concatenate([[0], edges])
        runs = np.diff(np.concatenate([starts, [len(column)]]))
        most = int(runs.argmax())
        if runs[most] > max(longest, _STUCK, _STUCK_SHARE * len(column)):
            longest, where = int(runs[most]), place_of(recordings, place, int(starts[most]))
    if longest and len(np.unique(np.concatenate(recordings.values)[:, channel])) > _DIFFERENT:
        yield finding(
            "stuck", f"{called} stands still for {longest:,} steps from {where} on: a sensor that "
            "is off repeats its last value",
        )  # fmt: skip


def _repeated(recordings: Recordings, values: NDArray[np.float64]) -> Iterator[Finding]:
    seen: dict[bytes, str] = {}
    for place, name in enumerate(recordings.channels):
        key = values[:, place].tobytes()
        if key in seen:
            yield finding(
                "repeated-channel", f"channel {name!r} is a copy of {seen[key]!r}: leave one out"
            )
        seen.setdefault(key, name)
    if recordings.labels is None or len(recordings.targets) != 1:
        return
    labels = np.concatenate([
        np.broadcast_to(item[:, 0], len(there)) if len(item) == 1 else item[:, 0]
        for item, there in zip(recordings.labels, recordings.values, strict=True)
    ])  # fmt: skip
    kinds = len(np.unique(labels))
    for place, name in enumerate(recordings.channels):
        if name in recordings.targets:
            # What is forecast is read as well.
            continue
        if not 1 < kinds == len(np.unique(values[:, place])):
            continue
        pairs = {*zip(values[:, place].tolist(), labels.tolist(), strict=True)}
        # Numbers that hardly ever come twice pair up with each other all the same.
        if kinds == len(pairs) <= len(labels) / 2:
            yield finding(
                "label-copy",
                f"channel {name!r} says the label {recordings.targets[0]!r} itself, in "
                f"{kinds} values: leave it out: --ignore {name}",
            )


def _of_times(recordings: Recordings) -> Iterator[Finding]:
    if recordings.times is None:
        return
    widths = [np.diff(item) for item in recordings.times]
    every = np.concatenate(widths)
    if not len(every):
        return
    usual = float(np.median(every))
    jumps = every > _JUMP * usual
    if jumps.any() and usual > 0:
        place = next(place for place, item in enumerate(widths) if (item > _JUMP * usual).any())
        step = int(np.flatnonzero(widths[place] > _JUMP * usual)[0])
        yield finding(
            "time-gaps",
            f"{number_of(int(jumps.sum()), 'jump')} in time of more than {_JUMP:g} steps of "
            f"{usual:g}, the first of {widths[place][step]:g} after "
            f"{place_of(recordings, place, step)}; with --step {usual:g} the steps between are "
            "filled",
        )
    even = every[~jumps]
    if are_uneven(recordings):
        yield finding(
            "uneven-steps",
            f"steps last {even.min():g} to {even.max():g}, {usual:g} in the middle: a model reads "
            f"how long each was (S5 as its \N{GREEK CAPITAL LETTER DELTA}, others as a channel); "
            f"--step {usual:g} makes them even, --intervals even takes them so",
        )


def _of_labels(recordings: Recordings) -> Iterator[Finding]:
    if recordings.labels is None or len(recordings.targets) != 1:
        return
    counts = Counter(str(label) for item in recordings.labels for label in np.unique(item[:, 0]))
    steps = Counter[str]()
    for item, values in zip(recordings.labels, recordings.values, strict=True):
        if len(item) == 1:
            steps[str(item[0, 0])] += len(values)
        else:
            steps.update(item[:, 0].tolist())
    if len(steps) > _DIFFERENT:
        return
    rare = [name for name, count in counts.items() if count < _RARE and name]
    if rare:
        shown = ", ".join(f"{name!r} in {counts[name]}" for name in sorted(rare)[:5])
        yield finding(
            "rare-labels", f"few recordings hold some labels ({shown}): each split needs its own"
        )
    most, least = max(steps.values()), min(steps.values())
    if most > _IMBALANCE * least:
        share = f"1:{most / least:.0f}"
        yield finding(
            "imbalance",
            f"labels are as rare as {share} ({min(steps, key=steps.__getitem__)!r}): accuracy says "
            "little; see balanced accuracy, and what always naming the most frequent one reaches",
        )
