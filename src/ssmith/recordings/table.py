"""Recordings from a table: one step a row, with columns mapped to what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError, InputError
from ssmith.core.preparation import PrepareConfig
from ssmith.core.words import number_of
from ssmith.recordings.columns import Columns
from ssmith.recordings.recording import Labels, Recordings

Orders = Sequence[NDArray[np.int64]]
_CUSTOMARY = {"sequence": "sequence", "time": "time", "split": "split"}


def mapped(config: PrepareConfig, names: list[str]) -> PrepareConfig:
    """Return the settings with columns of customary names in their customary roles."""
    taken = {*config.plain_columns(), *config.label, *config.channels}
    roles: dict[str, Any] = {
        role: name
        for role, name in _CUSTOMARY.items()
        if getattr(config, role) is None and name in names and name not in taken
    }
    if not config.label and "label" in names and "label" not in taken:
        roles["label"] = ("label",)
    found = replace(config, **roles)
    if found.task != "anomaly" or not found.label:
        return found
    if len(found.label) > 1 or found.truth is not None:
        raise InputError(
            f"labels {', '.join(found.label)} for anomalies",
            allowed="one column that marks those that are known", next_step="name one: --label",
        )  # fmt: skip
    return replace(found, truth=found.label[0], label=())


def of_table(
    columns: Columns, config: PrepareConfig, *, labelled: bool | None = None
) -> Recordings:
    """Return the recordings in a table, whose columns have the roles of a config (see `mapped`).

    One for each value of the sequence's column, or one in all, in order of first appearance; steps
    in order of time. ``labelled``: labels must be there; None: they are read where they are. Raises
    `DataError` if a column is missing, or a cell is not what its role needs.
    """
    for role in ("sequence", "time", "group", "split"):
        name = getattr(config, role)
        optional = labelled is not True and role in ("group", "split")
        if name is not None and not (optional and name not in columns.names):
            columns.require((name,), role)
    columns.require(config.channels, "a channel")
    there = all(name in columns.names for name in config.labels) and bool(config.labels)
    if labelled:
        columns.require(config.labels, "a label")
    channels = _channels(columns, config)
    order, starts, names = _ordered(columns, config)
    values = np.empty((len(columns), len(channels)))
    for place, name in enumerate(channels):
        # One by one: all columns beside their rows would take twice the memory.
        values[:, place] = columns.numbers(name)[order]
    times = None if config.time is None else columns.times(config.time)[order]
    texts = (
        np.stack([columns.texts(name)[order] for name in config.labels], axis=1) if there else None
    )
    orders = np.split(order, starts)
    found = Recordings(
        path=columns.path,
        names=names,
        channels=channels,
        values=tuple(np.split(values, starts)),
        units=dict(columns.units),
        times=None if times is None else tuple(np.split(times, starts)),
        rows=tuple(map(columns.numbers_of, orders)),
        labels=None if texts is None else tuple(map(_shortened, np.split(texts, starts))),
        targets=config.labels if there else (),
        details={**columns.details, "channels": list(channels)},
    )
    found = replace(
        found,
        groups=_constant(columns, config.group, found.names, orders),
        splits=_constant(columns, config.split, found.names, orders),
    )
    _check_times(columns, found, config, orders)
    return found


def _channels(columns: Columns, config: PrepareConfig) -> tuple[str, ...]:
    if config.channels:
        return config.channels
    left = {*config.plain_columns()}
    if config.task not in ("forecasting", "anomaly"):
        left |= {*config.label}
    names = [name for name in columns.names if name not in left]
    words = [name for name in names if not columns.is_numeric(name)]
    if words:
        holds = columns.holds(words[0])
        if holds == "numbers":
            # Raises at the first cell that is none.
            columns.numbers(words[0])
        raise DataError(
            f"{columns.path.name}, column {words[0]!r} holds {holds}, no numbers",
            allowed="numbers in channels",
            next_step=f"say what it is: --time {quote(words[0])}, or --ignore {quote(words[0])}"
            if holds == "times"
            else f"say what it is: --sequence, --time, --label, --group or "
            f"--ignore {quote(','.join(words))}",
        )
    if not names:
        raise DataError(
            f"{columns.path.name} has no column left for a channel",
            allowed="at least one column of numbers that is neither label, time, nor ignored",
        )
    return tuple(names)


def _ordered(
    columns: Columns, config: PrepareConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Return rows in order of recordings and time, where new recordings start, and their names."""
    count = len(columns)
    if config.sequence is None:
        sequence = np.zeros(count, dtype=np.int64)
        names: tuple[str, ...] = (columns.path.stem,)
    else:
        codes, words = columns.coded(config.sequence)
        if "" in words and len(row := np.flatnonzero(codes == words.index(""))):
            raise DataError(
                f"{columns.where(int(row[0]))}, column {config.sequence!r}: the cell is empty",
                next_step="say which recording the step belongs to",
            )
        seen, first = np.unique(codes, return_index=True)
        rank = np.empty(len(words), dtype=np.int64)
        rank[seen[np.argsort(first)]] = np.arange(len(seen))
        sequence = rank[codes]
        names = tuple(words[code] for code in codes[np.sort(first)].tolist())
    keys: tuple[NDArray, ...] = (sequence,)
    if config.time is not None:
        times = columns.times(config.time)
        bad = np.flatnonzero(~np.isfinite(times))
        if len(bad):
            raise DataError(
                f"{columns.where(int(bad[0]))}, column {config.time!r}: no time",
                allowed="numbers, or times as 2026-01-31 12:00:00, in all rows",
                next_step="correct or drop the row",
            )
        keys = (times, sequence)
    order = np.lexsort(keys)
    starts = np.flatnonzero(np.diff(sequence[order])) + 1
    return order.astype(np.int64), starts, names


def _shortened(labels: Labels) -> Labels:
    """Return one row of labels for a recording that has the same at all its steps."""
    return labels[:1] if bool((labels == labels[0]).all()) else labels


def _constant(
    columns: Columns, name: str | None, names: Sequence[str], orders: Orders
) -> tuple[str, ...] | None:
    """Return what a column says of each recording, which is one thing."""
    if name is None or name not in columns.names:
        return None
    texts = columns.texts(name)
    said = []
    for rows, called in zip(orders, names, strict=True):
        here = texts[rows]
        other = np.flatnonzero(here != here[0])
        if len(other):
            raise DataError(
                f"{columns.where(int(rows[other[0]]))}: recording {called!r} changes its {name} "
                f"from {str(here[0])!r} to {str(here[other[0]])!r}",
                allowed=f"one {name} for a recording",
                next_step="correct the row, or name the column that tells recordings apart: "
                "--sequence COLUMN",
            )
        said.append(str(here[0]))
    return tuple(said)


def _check_times(
    columns: Columns, found: Recordings, config: PrepareConfig, orders: Orders
) -> None:
    """Refuse two steps of one recording at the same time."""
    for name, times, rows in zip(found.names, found.times or (), orders, strict=False):
        same = np.flatnonzero(np.diff(times) == 0)
        if len(same):
            row = int(rows[same[0] + 1])
            raise DataError(
                f"{columns.where(row)}: recording {name!r} has the time of another of its rows, "
                f"{columns.texts(config.time or '')[row]}, at {number_of(len(same), 'row')} in all",
                allowed="each time once in a recording",
                next_step="name the column that tells recordings apart: --sequence COLUMN"
                if config.sequence is None else "drop the copies",
            )  # fmt: skip
