"""Covariates that are known ahead: their values at each horizon, as channels of the step before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings.recording import Recordings


def with_known(recordings: Recordings, config: PrepareConfig) -> Recordings:
    """Return recordings with what is known ahead beside each step, up to the last step that has it.

    Rows at the end of a recording that hold nothing but what is known ahead are no steps of it.
    """
    if not config.known:
        return recordings
    lacks = [name for name in config.known if name not in recordings.channels]
    if lacks:
        raise DataError(
            f"{recordings.path.name} has no channel {lacks[0]!r}, which was given as known",
            allowed=", ".join(recordings.channels),
        )
    places = [recordings.channels.index(name) for name in config.known]
    measured = [place for place in range(len(recordings.channels)) if place not in places]
    most, values, stops = max(config.horizon), [], []
    for item in recordings.values:
        steps = np.flatnonzero(np.isfinite(item[:, measured]).any(1))
        stop = min(int(steps[-1]) + 1 if len(steps) else 0, len(item) - most)
        later = [item[ahead : ahead + max(stop, 0), places] for ahead in config.horizon]
        values.append(np.column_stack([item[: max(stop, 0)], *later]))
        stops.append(max(stop, 0))
    if not any(stops):
        raise DataError(
            f"{recordings.path.name} says {', '.join(config.known)} for no step {most} steps ahead",
            allowed="rows after the last measured one, with these columns filled",
            next_step="add the rows, or choose a shorter --horizon",
        )
    return _shortened(recordings, config, values, stops)


def _shortened(
    recordings: Recordings,
    config: PrepareConfig,
    values: list[NDArray[np.float64]],
    stops: list[int],
) -> Recordings:
    kept = [place for place, stop in enumerate(stops) if stop]

    def cut(parts: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if parts is None:
            return None
        return tuple(parts[place][: stops[place]] for place in kept)

    def chosen(parts: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return None if parts is None else tuple(parts[place] for place in kept)

    return replace(
        recordings,
        channels=(*recordings.channels, *config.ahead_names()),
        names=tuple(recordings.names[place] for place in kept),
        values=tuple(values[place] for place in kept),
        times=cut(recordings.times),
        rows=cut(recordings.rows),
        labels=cut(recordings.labels),
        groups=chosen(recordings.groups),
        splits=chosen(recordings.splits),
    )
