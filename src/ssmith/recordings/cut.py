"""Rows from recordings: whole ones, or windows of them, with what is to be predicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings.recording import Labels, Recordings

_LEAST, _LONGEST, _MANY = 16, 512, 4000
Flags = NDArray[np.bool_]
_USUAL = ("", "0", "0.0", "no", "false", "normal", "none")
AHEAD = ("forecasting", "anomaly")
"""Tasks whose targets are later values of the channels."""


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Rows, each some steps of a recording in a row, and how far they or their targets reach."""

    recording: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    reach: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: NDArray[np.int64]) -> Spans:
        """Return some rows."""
        return Spans(
            recording=self.recording[index], start=self.start[index], stop=self.stop[index],
            reach=self.reach[index],
        )  # fmt: skip


def chosen_window(recordings: Recordings, config: PrepareConfig) -> PrepareConfig:
    """Return the settings with a window, where the recordings ask for one.

    A label that changes on the way, a forecast, or a single recording need one: half as long as
    labels usually last, or 64 steps, and never longer than half the shortest recording.
    """
    needs = config.task in (*AHEAD, "per-step") or recordings.labelled_by_step()
    single = len(recordings.names) < 4 and recordings.splits is None
    window = config.window
    if window is None and (needs or single):
        classes = config.task not in (*AHEAD, "regression") and recordings.labelled_by_step()
        usual = _usual_run(recordings.labels) if classes else 128
        most = max(2, min(_LONGEST, min(recordings.lengths) // 2))
        window = min(most, max(_LEAST, 2 ** int(np.log2(max(1, usual // 2)))))
    if window is None or config.stride is not None:
        return replace(config, window=window)
    stride = max(1, window // 2)
    if config.task in AHEAD:
        stride = max(1, min(stride, sum(recordings.lengths) // _MANY))
    return replace(config, window=window, stride=1 if config.task == "per-step" else stride)


def cut(recordings: Recordings, config: PrepareConfig, *, to_end: bool = False) -> Spans:
    """Return the rows of recordings without gaps, in the order of recordings and time.

    ``to_end``: the last steps of each are in a row as well, and rows may lack what they predict, as
    of new data. Raises `DataError` if there is no row.
    """
    ahead = reach_of(config)
    rows = [
        (place, start, stop, stop + ahead)
        for place, length in enumerate(recordings.lengths)
        for start, stop in spans(length, 0 if to_end else ahead, config, to_end=to_end)
    ]
    if not rows:
        raise DataError(
            f"{recordings.path.name} has no recording of more than {ahead} steps",
            allowed="recordings longer than the horizon", next_step="shorten the horizon",
        )  # fmt: skip
    recording, start, stop, reach = np.array(rows, dtype=np.int64).T
    return Spans(recording=recording, start=start, stop=stop, reach=reach)


def reach_of(config: PrepareConfig) -> int:
    """Return how many steps after a row what it predicts may lie."""
    return max(config.offsets) if config.task in AHEAD else 0


def marked_rows(recordings: Recordings, rows: Spans, config: PrepareConfig) -> Flags | None:
    """Return which rows predict a known anomaly, or None where nothing is said of them."""
    if config.truth is None or recordings.labels is None:
        return None
    found = np.zeros(len(rows), dtype=bool)
    steps = _marked_steps(recordings, rows)
    for row, (recording, stop) in enumerate(zip(rows.recording, rows.stop, strict=True)):
        places = stop - 1 + np.array(config.offsets)
        here = steps[recording]
        found[row] = here[places[(places >= 0) & (places < len(here))]].any()
    return found


def touched_rows(recordings: Recordings, rows: Spans) -> Flags:
    """Return which rows have a known anomaly at any step that they read or predict."""
    steps = _marked_steps(recordings, rows)
    spans = zip(rows.recording, rows.start, rows.reach, strict=True)
    return np.array([bool(steps[place][start:stop].any()) for place, start, stop in spans])


def _marked_steps(recordings: Recordings, rows: Spans) -> dict[int, Flags]:
    assert recordings.labels is not None
    found = {}
    for place in np.unique(rows.recording).tolist():
        labels = np.char.lower(np.char.strip(recordings.labels[place][:, 0]))
        marks = ~np.isin(labels, _USUAL)
        if len(marks) == 1:
            marks = np.repeat(marks, recordings.lengths[place])
        found[place] = marks
    return found


def labels_of(recordings: Recordings, rows: Spans, config: PrepareConfig) -> Labels | None:
    """Return the label of each row, a column for each target; empty texts where unknown."""
    if recordings.labels is None:
        return None
    found = []
    for recording, start, stop in zip(rows.recording, rows.start, rows.stop, strict=True):
        here = recordings.labels[recording]
        steps = here if len(here) == 1 else here[start:stop]
        found.append(_RULES[config.window_label](steps))
    return np.stack(found)


def later_values(
    recordings: Recordings, rows: Spans, config: PrepareConfig, targets: tuple[str, ...]
) -> NDArray[np.float64]:
    """Return the values to predict, offset by offset; NaN beyond the ends of a recording."""
    columns = [recordings.channels.index(name) for name in targets]
    offsets = np.array(config.offsets)
    found = np.full((len(rows), len(offsets), len(columns)), np.nan)
    for row, (recording, stop) in enumerate(zip(rows.recording, rows.stop, strict=True)):
        values, steps = recordings.values[recording], stop - 1 + offsets
        there = (steps >= 0) & (steps < len(values))
        found[row, there] = values[steps[there]][:, columns]
    return found.reshape(len(rows), -1)


def spans(
    length: int, ahead: int, config: PrepareConfig, *, to_end: bool, skip: int = 0
) -> Iterator[tuple[int, int]]:
    """Yield the first step of each row of a recording, and the one after its last.

    ``ahead`` steps are left for what is predicted; ``skip`` leaves out the first rows.
    """
    most = length - ahead
    if most < 1:
        return
    if config.window is None:
        yield from [(0, most)][skip:]
        return
    window, stride = min(config.window, most), config.stride or max(1, config.window // 2)
    if config.task == "per-step":
        for stop in range(1 + skip * stride, most + 1, stride):
            yield max(0, stop - window), stop
        return
    last = (skip - 1) * stride + window if skip else -1
    for start in range(skip * stride, most - window + 1, stride):
        last = start + window
        yield start, last
    if to_end and last < most:
        yield most - window, most


def is_number(text: str) -> bool:
    """Return whether a text is a finite number."""
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _majority(steps: Labels) -> Labels:
    rows = Counter(map(tuple, steps.tolist()))
    # The later one of two that are as frequent.
    most = max(rows.values())
    last = next(row for row in reversed(steps.tolist()) if rows[tuple(row)] == most)
    return np.array(last, dtype=steps.dtype)


def _mean(steps: Labels) -> Labels:
    """Return the mean over the steps that have numbers; a word stays, and is refused later."""
    known = steps[(steps != "").all(1)]
    if len(known) and bool((known == known[0]).all()):
        return np.asarray(known[0])
    words = [row for row in known if not all(map(is_number, row.tolist()))]
    if words or not len(known):
        return np.asarray(words[0] if words else steps[-1])
    return np.array([repr(item) for item in known.astype(np.float64).mean(0).tolist()])


_RULES = {"last": lambda steps: steps[-1], "majority": _majority, "mean": _mean}


def _usual_run(labels: tuple[Labels, ...] | None) -> int:
    """Return the median number of steps that a label lasts."""
    runs: list[int] = []
    for item in labels or ():
        if len(item) > 1:
            changes = np.flatnonzero((item[1:] != item[:-1]).any(1)) + 1
            runs += np.diff([0, *changes.tolist(), len(item)]).tolist()
    return int(np.median(runs)) if runs else 128
