"""Which rows go to which split: as the source says, by group, by time, or by a draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ssmith.core.errors import DataError, InputError
from ssmith.core.preparation import PrepareConfig, SplitRule
from ssmith.core.seeds import generator
from ssmith.core.sequences import SPLITS
from ssmith.core.words import number_of
from ssmith.data.splitting import FRACTIONS, quotas
from ssmith.recordings.cut import AHEAD, Spans
from ssmith.recordings.recording import Recordings

DROPPED = ""
"""Split of rows that reach from one split into the next."""
_TRIES = 64
_ENOUGH = 8


def rule_of(recordings: Recordings, config: PrepareConfig) -> SplitRule:
    """Return how rows are split: the first of file, group, draw and time that the data allows."""
    if config.by is not None:
        return config.by
    if recordings.splits is not None:
        return "file"
    if recordings.groups is not None:
        return "group"
    if config.window is None:
        return "draw"
    return "group" if len(recordings.names) >= _ENOUGH else "time"


def splits_of(
    recordings: Recordings, rows: Spans, config: PrepareConfig, strata: Sequence[str]
) -> list[str] | None:
    """Return the split of each row, `DROPPED` for none; None where they are to be drawn one by one.

    ``strata`` are the class of each row, or what else is to be in every split. Raises `InputError`
    if the source has nothing to go by, `DataError` if there are too few groups, or a split has no
    row.
    """
    if config.by == "draw":
        if config.window is not None and recordings.labels is not None:
            return _by_group(recordings, rows, config, strata, recordings.names)
        return None
    if config.by == "file":
        if recordings.splits is None:
            raise InputError("by is 'file'", allowed="a column of splits: --split COLUMN")
        found = [recordings.splits[place] for place in rows.recording]
    elif config.by == "group":
        groups = recordings.groups or recordings.names
        found = _by_group(recordings, rows, config, strata, groups)
    else:
        found = _by_time(recordings, rows, config)
    _check(recordings, found)
    return found


def _check(recordings: Recordings, found: list[str]) -> None:
    wrong = sorted(set(found) - {*SPLITS, DROPPED})
    if wrong:
        raise DataError(
            f"{recordings.path.name} names split {wrong[0]!r}", allowed=", ".join(SPLITS),
            next_step="rename the split, or leave the column out to have splits drawn",
        )  # fmt: skip
    lacks = [name for name in ("train", "validation") if name not in found]
    if lacks:
        raise DataError(
            f"{recordings.path.name} has no row in split {', '.join(lacks)}",
            allowed="rows in train and validation at least",
            next_step="shorten the window (--window), or split otherwise (--by)",
        )


def _by_time(recordings: Recordings, rows: Spans, config: PrepareConfig) -> list[str]:
    """Split each recording along its time; what reaches over a border is in no split.

    A forecast may start from what was known before its split; what it predicts may not.
    """
    begins = rows.stop if config.task in AHEAD and not config.reconstructs else rows.start
    ends = np.cumsum([FRACTIONS[name] for name in SPLITS])
    found = []
    for recording, start, reach in zip(rows.recording, begins, rows.reach, strict=True):
        borders = np.round(ends * recordings.lengths[recording]).astype(int)
        first = int(np.searchsorted(borders, start, side="right"))
        inside = first < len(SPLITS) and reach <= borders[first]
        found.append(SPLITS[first] if inside else DROPPED)
    return found


def _by_group(
    recordings: Recordings,
    rows: Spans,
    config: PrepareConfig,
    strata: Sequence[str],
    groups: Sequence[str],
) -> list[str]:
    """Draw groups into splits: of many draws the one whose splits hold all classes, evenly."""
    names = list(dict.fromkeys(groups))
    if len(names) < len(SPLITS):
        raise DataError(
            f"{recordings.path.name} has {number_of(len(names), 'group')} to split by: "
            f"{', '.join(names)}",
            allowed=f"at least {len(SPLITS)}, one for each split",
            next_step="split along time: --by time",
        )
    of_row = np.array([names.index(groups[place]) for place in range(len(recordings.names))])
    of_row = of_row[rows.recording]
    classes = {name: place for place, name in enumerate(dict.fromkeys(strata))}
    counts = np.zeros((len(names), len(classes)))
    np.add.at(counts, (of_row, np.array([classes[name] for name in strata])), 1)
    draws = [_drawn(counts, config.seed, draw) for draw in range(_TRIES)]
    best = min(draws, key=lambda item: _badness(counts, item))
    return [SPLITS[best[group]] for group in of_row]


def _drawn(counts: NDArray[np.float64], seed: int, draw: int) -> NDArray[np.int64]:
    """Return the split of each group in one draw."""
    quota = quotas(len(counts))
    order = torch.randperm(len(counts), generator=generator(seed, "groups", draw)).numpy()
    split = np.repeat(np.arange(len(SPLITS)), [quota[name] for name in SPLITS])
    found = np.empty(len(counts), dtype=np.int64)
    found[order] = split
    return found


def _badness(counts: NDArray[np.float64], split: NDArray[np.int64]) -> float:
    total = counts.sum(0)
    bad = 0.0
    for place, name in enumerate(SPLITS):
        here = counts[split == place].sum(0)
        share = here / total
        # A class that is not trained on can never be named.
        bad += float((here == 0).sum()) * (10.0 if name == "train" else 1.0)
        bad += float(np.abs(share - FRACTIONS[name]).mean())
    return bad
