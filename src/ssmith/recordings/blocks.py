"""Rows as blocks of numbers, and where each of them is from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ssmith.core.preparation import KNOWN, Preparation, PrepareConfig
from ssmith.recordings.cut import Spans, marked_rows
from ssmith.recordings.recording import Recordings

NAME, START, STOP, TIME, GROUP = "name", "start", "stop", "time", "group"
"""Columns of rows: which recording, its first step, the step after its last, the time of its last
step, its group; and whether it predicts an anomaly that is known (`KNOWN`)."""


def steps_of(recordings: Recordings, rows: Spans) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the values of rows, padded on the right with 0, and their lengths."""
    lengths = rows.stop - rows.start
    x = np.zeros((len(rows), int(lengths.max()), len(recordings.channels)))
    for row, (recording, start, stop) in enumerate(
        zip(rows.recording, rows.start, rows.stop, strict=True)
    ):
        x[row, : stop - start] = recordings.values[recording][start:stop]
    return x, lengths


def columns_of(
    recordings: Recordings, rows: Spans, config: PrepareConfig
) -> dict[str, tuple[str, ...]]:
    """Return where each row is from."""
    found = {
        NAME: tuple(recordings.names[place] for place in rows.recording),
        START: tuple(map(str, rows.start + recordings.offset)),
        STOP: tuple(map(str, rows.stop + recordings.offset)),
    }
    if recordings.times is not None:
        ends = zip(rows.recording, rows.stop, strict=True)
        found[TIME] = tuple(f"{recordings.times[place][stop - 1]:.15g}" for place, stop in ends)
    if recordings.groups is not None:
        found[GROUP] = tuple(recordings.groups[place] for place in rows.recording)
    marks = marked_rows(recordings, rows, config)
    if marks is not None:
        found[KNOWN] = tuple(map(str, marks.astype(int)))
    return found


def valid_steps(lengths: NDArray[np.int64], longest: int) -> NDArray[np.bool_]:
    """Return which steps are no padding."""
    return np.less(np.arange(longest)[None, :], lengths[:, None])


def scaled_steps(
    x: NDArray[np.float64], lengths: NDArray[np.int64], preparation: Preparation
) -> NDArray[np.float32]:
    """Return rows as the model reads them; padding stays 0."""
    valid = valid_steps(lengths, x.shape[1])[..., None]
    return np.where(valid, preparation.scaled(x), np.float32(0))
