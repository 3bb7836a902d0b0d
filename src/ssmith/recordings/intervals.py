"""How long steps lasted, as a channel: for a model that takes no step as any other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ssmith.core.errors import DataError
from ssmith.core.preparation import INTERVAL, PrepareConfig
from ssmith.recordings.recording import Recordings

_JUMP, _UNEVEN = 5.0, 0.1


def are_uneven(recordings: Recordings) -> bool:
    """Return whether steps differ by more than a tenth of their mean, jumps aside."""
    every = widths_of(recordings)
    even = every[every <= _JUMP * np.median(every)] if len(every) else every
    return bool(len(even)) and float(even.std()) > _UNEVEN * float(even.mean())


def widths_of(recordings: Recordings) -> np.ndarray:
    """Return how long all steps lasted, one recording after the other."""
    found = [np.diff(item) for item in recordings.times or ()]
    return np.concatenate(found) if found else np.empty(0)


def with_chosen(recordings: Recordings, config: PrepareConfig) -> PrepareConfig:
    """Return the settings with the intervals as the recordings ask for."""
    if config.intervals is not None:
        return config
    reads = config.time is not None and config.step is None and are_uneven(recordings)
    return replace(config, intervals="measured" if reads else "even")


def with_intervals(recordings: Recordings, config: PrepareConfig) -> Recordings:
    """Return recordings with the time since the step before as their last channel, if asked for.

    Of the first step of a recording it is not known.
    """
    if config.intervals != "measured":
        return recordings
    if recordings.times is None:
        raise DataError(
            f"{recordings.path.name} has no times", allowed=f"column {config.time!r}",
            next_step="name the column: --time COLUMN",
        )  # fmt: skip
    columns = [np.diff(item, prepend=np.nan) for item in recordings.times]
    pairs = zip(recordings.values, columns, strict=True)
    return replace(
        recordings,
        channels=(*recordings.channels, INTERVAL),
        values=tuple(np.column_stack([values, column]) for values, column in pairs),
    )
