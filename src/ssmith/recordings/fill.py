"""Gaps, marks that stand for gaps, and steps of another width: before anything is cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings.ahead import with_known
from ssmith.recordings.recording import Recordings
from ssmith.recordings.tally import Tally, gaps_found, gaps_said

Series = NDArray[np.float64]
_MOST = 1 << 27
"""Most values of a recording after resampling."""


def filled(recordings: Recordings, config: PrepareConfig, tally: Tally | None = None) -> Recordings:
    """Return recordings on their own steps, without gaps.

    Values of ``missing`` become gaps; with ``step`` there is one row every so many units of time,
    the mean of what falls into it and of labels the last; what is known ahead becomes channels of
    its own (see `with_known`); a gap then takes the last value before it, at the beginning the
    first one after it. A finding says how many gaps there were, and where the first is, unless
    ``tally`` counts them. Raises `DataError` if gaps are to be refused and there is one, or a
    channel has nothing else.
    """
    found = marked(recordings, config)
    if config.step is not None:
        found = _resampled(found, config.step)
    found = with_known(found, config)
    gaps = [np.isnan(item) for item in found.values]
    if not any(item.any() for item in gaps):
        return found
    counted = Tally() if tally is None else tally
    counted.add(found, gaps)
    if config.gaps == "refuse":
        raise DataError(
            gaps_said(found.path.name, counted), allowed="no gap, by --gaps refuse",
            next_step="fill them in",
        )  # fmt: skip
    said = () if tally is not None else gaps_found(found.path.name, counted)
    return replace(
        found,
        values=tuple(_held(item, found, place) for place, item in enumerate(found.values)),
        findings=(*found.findings, *said),
    )


def marked(recordings: Recordings, config: PrepareConfig) -> Recordings:
    """Return recordings with gaps where there are values of ``missing``, or none that is finite."""
    values = tuple(_without(item, config.missing) for item in recordings.values)
    return replace(recordings, values=values)


def _without(values: Series, missing: tuple[float, ...]) -> Series:
    gone = np.isin(values, missing) if missing else np.zeros(values.shape, dtype=bool)
    return np.where(gone | ~np.isfinite(values), np.nan, values)


def _held(values: Series, found: Recordings, recording: int) -> Series:
    """Return values with the last one before each gap in its place."""
    known = ~np.isnan(values)
    empty = np.flatnonzero(~known.any(0))
    if len(empty):
        raise DataError(
            f"{found.path.name}: channel {found.channels[empty[0]]!r} has no value in "
            f"{found.names[recording]!r}",
            allowed="at least one value of every channel in every recording",
            next_step=f"leave the channel out: --ignore {found.channels[empty[0]]}, or drop the "
            "recording",
        )
    step = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(known, step, -1), axis=0)
    last = np.where(last < 0, known.argmax(0)[None, :], last)
    return np.take_along_axis(values, last, axis=0)


def _resampled(found: Recordings, step: float) -> Recordings:
    if found.times is None:
        raise DataError(
            f"{found.path.name} has no times to resample by",
            allowed="step where steps have times",
            next_step="name the column: --time COLUMN",
        )  # fmt: skip
    values, times, labels, rows = [], [], [], []
    for place, (here, when) in enumerate(zip(found.values, found.times, strict=True)):
        # Half a millionth of a step late is rounding, not the next step.
        at = np.floor((when - when[0]) / step + 5e-7).astype(np.int64)
        count = int(at[-1]) + 1
        if count * here.shape[1] > _MOST:
            raise DataError(
                f"{found.names[place]!r} lasts {when[-1] - when[0]:g}, which is {count:,} steps of "
                f"{step:g}",
                allowed=f"at most {_MOST:,} values a recording", next_step="take a longer step",
            )  # fmt: skip
        values.append(_means(here, at, count))
        times.append(when[0] + step * np.arange(count))
        last = np.zeros(count, dtype=np.int64)
        last[at] = np.arange(len(at))
        last = np.maximum.accumulate(last)
        rows.append((np.arange(len(at)) if found.rows is None else found.rows[place])[last])
        if found.labels is not None:
            here_labels = found.labels[place]
            labels.append(here_labels if len(here_labels) == 1 else here_labels[last])
    said = {**found.details, "resampled_to": step}
    return replace(
        found, values=tuple(values), times=tuple(times), rows=tuple(rows) if found.rows else None,
        labels=tuple(labels) if found.labels is not None else None, details=said,
    )  # fmt: skip


def _means(values: Series, at: NDArray[np.int64], count: int) -> Series:
    """Return the mean of what falls into each step, NaN where nothing does."""
    made = np.full((count, values.shape[1]), np.nan)
    for channel in range(values.shape[1]):
        known = np.isfinite(values[:, channel])
        total = np.bincount(at[known], values[known, channel], minlength=count)
        seen = np.bincount(at[known], minlength=count)
        np.divide(total, seen, out=made[:, channel], where=seen > 0)
    return made
