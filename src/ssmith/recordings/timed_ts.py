"""The ``.ts`` format with time stamps: ``(time, value)`` in place of each value."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.data.files import read_text
from ssmith.data.ts_file import header_of_ts
from ssmith.recordings.columns import Columns
from ssmith.recordings.recording import Recordings

_PAIR = re.compile(r"\(\s*([^(),]+?)\s*,\s*([^(),]*?)\s*\)")
_CHANNELS = re.compile(r":(?![^(]*\))")
_GAPS = ("", "?", "nan")
Series = NDArray[np.float64]


def read_timed_ts(path: Path) -> Recordings | None:
    """Read the sequences of such a file; None if its steps have no time stamps.

    Channels of a sequence may have times of their own: where one has no value there is a gap.
    """
    lines = read_text(path).splitlines()
    header, start = header_of_ts(path, lines)
    if header.get("@timestamps") != "true":
        return None
    labelled = not header.get("@classlabel", header.get("@targetlabel", "true")).startswith("false")
    sequences, labels, first = [], [], 0
    for number, line in enumerate(lines[start:], start=start + 1):
        if not line.strip():
            continue
        parts = [part.strip() for part in _CHANNELS.split(line.strip())]
        labels += [parts.pop()] if labelled else []
        where = f"{path.name} line {number}"
        sequences.append([_pairs(part, where) for part in parts])
        first = first or len(parts)
        if len(parts) != first or not first:
            raise DataError(
                f"{where} has {len(parts)} channels", allowed=f"{first}, as the first sequence has"
            )
    if not sequences:
        raise DataError(f"{path.name} has no sequence", next_step="check how it was written")
    times = _in_numbers(path, [[time for time, _ in pairs] for one in sequences for pairs in one])
    made = [
        _aligned(path, one, times[place * first : (place + 1) * first])
        for place, one in enumerate(sequences)
    ]  # fmt: skip
    return Recordings(
        path=path,
        names=tuple(map(str, range(len(made)))),
        channels=tuple(f"channel {place}" for place in range(first)),
        values=tuple(values for _, values in made),
        times=tuple(when for when, _ in made),
        labels=tuple(np.array([[label]]) for label in labels) if labelled else None,
        targets=("label",) if labelled else (),
    )


def _pairs(text: str, where: str) -> list[tuple[str, float]]:
    found, rest = _PAIR.findall(text), _PAIR.sub("", text)
    if not found or rest.strip(", "):
        raise DataError(
            f"{where}: {text!r:.60}", allowed="(time, value), (time, value), … for each channel"
        )
    try:
        # Python reads 1_000 as a number, and nothing else does.
        return [(time, np.nan if value.lower() in _GAPS else float(value.replace("_", "x")))
                for time, value in found]  # fmt: skip
    except ValueError as error:
        raise DataError(f"{where}: {error}", allowed="numbers, or ? for a gap") from error


def _in_numbers(path: Path, times: list[list[str]]) -> list[Series]:
    """Return times of all channels, which are written in one way: seconds, or plain numbers."""
    lib = import_module("pyarrow")
    every = [time for part in times for time in part]
    table = lib.table({"time": lib.array(every, lib.string())})
    numbers = Columns(path=path, table=table).times("time")
    return list(np.split(numbers, np.cumsum([len(part) for part in times])[:-1]))


def _aligned(
    path: Path, channels: list[list[tuple[str, float]]], times: list[Series]
) -> tuple[Series, Series]:
    """Return the times at which any channel has a value, and these values."""
    every = np.unique(np.concatenate(times))
    values = np.full((len(every), len(channels)), np.nan)
    for place, (pairs, when) in enumerate(zip(channels, times, strict=True)):
        if len(np.unique(when)) != len(when):
            raise DataError(f"{path.name}: two values of a channel at one time", allowed="one")
        values[np.searchsorted(every, when), place] = [value for _, value in pairs]
    return every, values
