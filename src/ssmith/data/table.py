"""The long form of series: one step per row, under the names of its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.data.arrow import read_arrow
from ssmith.data.csv_file import Table, read_table
from ssmith.data.files import require_columns
from ssmith.data.raw import NAME, Raw

SEQUENCE, TIME, LABEL, SPLIT = "sequence", "time", "label", "split"
_RESERVED = (SEQUENCE, TIME, LABEL, SPLIT)


def read_long(path: Path, columns: Sequence[str] = (), *, labelled: bool = True) -> Raw:
    """Read a table in long form: one row per step, columns in any order.

    ``sequence`` and ``label`` are required, ``time`` and ``split`` are not; every other column
    is a channel, unless it is named in ``columns``. Rows of one sequence are sorted by ``time``
    if it is there, else they keep their order. A sequence has one label, one split, and one value
    of each named column. Without ``labelled`` there need be no label, and every one is 0.
    """
    texts = (SEQUENCE, LABEL, SPLIT, *columns)

    def check(header: list[str]) -> None:
        _check_header(header, path, columns, labelled=labelled)

    try:
        table = read_table(path, texts=texts, times=(TIME,), check=check)
        return _series(table, path, columns, labelled=labelled)
    except DataError:
        # Blank lines are counted only by the slow way, and the row that is named must be right.
        table = read_table(path, texts=texts, times=(TIME,), check=check, exact=True)
        return _series(table, path, columns, labelled=labelled)


def is_long(names: Sequence[str]) -> bool:
    """Return whether columns are those of a table in long form."""
    return SEQUENCE in names and LABEL in names


def read_long_arrow(path: Path, columns: Sequence[str] = (), *, labelled: bool = True) -> Raw:
    """Read the same from Parquet, Arrow or the directory of a data set."""
    found = read_arrow(path)
    _check_header(found.column_names, path, columns, labelled=labelled)
    table = Table.of(found, path.name, texts=(SEQUENCE, LABEL, SPLIT, *columns), times=(TIME,))
    return _series(table, path, columns, labelled=labelled)


def _check_header(header: list[str], path: Path, columns: Sequence[str], *, labelled: bool) -> None:
    require_columns(columns, header, path)
    channels = [name for name in header if name not in (*_RESERVED, *columns)]
    twice = len(set(header)) < len(header) or "" in header
    needed = {SEQUENCE, LABEL} if labelled else {SEQUENCE}
    if not (needed <= set(header) and channels) or twice:
        raise DataError(
            f"{path.name} has columns {', '.join(header)}",
            allowed=f"sequence, {'label, ' * labelled}at least one channel, and if wanted time and "
            "split; each once, separated by commas, semicolons or tabs",
            next_step="rename or add columns in the first row of the file",
        )


@dataclass(frozen=True)
class _Order:
    """Rows in the order of their sequences, and of time within each.

    Args:
        rows: of the table.
        sequence: number of its sequence, of each of ``rows``; in order of first appearance.
        first: the first row of each sequence, as the table has them.
        lengths: rows of each sequence.
    """

    rows: NDArray[np.int64]
    sequence: NDArray[np.int64]
    first: NDArray[np.int64]
    lengths: NDArray[np.int64]
    step: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        object.__setattr__(self, "step", np.arange(len(self.rows)) - starts[self.sequence])


def _series(table: Table, path: Path, columns: Sequence[str], *, labelled: bool) -> Raw:
    if not table.size:
        raise DataError(f"{path.name} has no sequence", next_step="check how it was written")
    codes, names = table.texts[SEQUENCE]
    told = (LABEL, SPLIT) if labelled else (SPLIT,)
    constant = [name for name in (*told, *columns) if name in table.texts]
    if labelled:
        _check_empty(table)
    order = _ordered(codes, table.numbers.get(TIME))
    for name in constant:
        _check_constant(table, name, order)
    _check_times(table, order)
    channels = [values for name, values in table.numbers.items() if name != TIME]
    shape = (len(order.lengths), int(order.lengths.max()), len(channels))
    x = np.zeros(shape, dtype=np.float32)
    for place, values in enumerate(channels):
        # What float32 does not hold becomes infinite, and is refused as such.
        with np.errstate(over="ignore"):
            x[order.sequence, order.step, place] = values[order.rows]
    said = {name: _values(table, name, order) for name in constant}
    called = [names[code] for code in codes[order.first].tolist()]
    return Raw(
        path=path,
        x=torch.from_numpy(x),
        lengths=torch.from_numpy(order.lengths),
        y=targets_of(said[LABEL]) if labelled else [0] * len(called),
        split_of=said.get(SPLIT),
        names=[repr(name) for name in called],
        columns={NAME: called} | {name: said[name] for name in columns},
        channels=tuple(name for name in table.numbers if name != TIME),
        details=table.details,
    )


def _ordered(codes: NDArray[Any], times: NDArray[np.float64] | None) -> _Order:
    _, first, sequence = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    sequence = rank[sequence]
    rows = np.lexsort((sequence,) if times is None else (times, sequence))
    return _Order(
        rows=rows, sequence=sequence[rows], first=np.sort(first), lengths=np.bincount(sequence)
    )


def _values(table: Table, name: str, order: _Order) -> list[str]:
    codes, names = table.texts[name]
    return [names[code] for code in codes[order.first].tolist()]


def _check_empty(table: Table) -> None:
    codes, names = table.texts[LABEL]
    if "" in names:
        row = int(np.flatnonzero(codes == names.index(""))[0])
        raise DataError(
            f"{table.where(row)}, column {LABEL!r}: the cell is empty",
            allowed="the same label in all rows of a sequence",
            next_step="fill it in, or leave the sequence out",
        )


def _check_constant(table: Table, name: str, order: _Order) -> None:
    codes, names = table.texts[name]
    wanted = codes[order.first][order.sequence]
    wrong = order.rows[codes[order.rows] != wanted]
    if len(wrong):
        row = int(wrong.min())
        called, title = table.texts[SEQUENCE]
        start = int(order.first[order.sequence[np.flatnonzero(order.rows == row)[0]]])
        raise DataError(
            f"{table.where(row)}: sequence {title[called[row]]!r} changes its {name} from "
            f"{names[codes[start]]!r} to {names[codes[row]]!r}",
            allowed=f"one {name} for a sequence",
            next_step="correct the row, or give its sequence another name",
        )


def _check_times(table: Table, order: _Order) -> None:
    if TIME not in table.numbers:
        return
    times = table.numbers[TIME]
    bad = np.flatnonzero(~np.isfinite(times))
    if len(bad):
        raise DataError(
            f"{table.where(int(bad[0]))} has a time that is not finite", allowed="finite numbers"
        )
    sorted_times = times[order.rows]
    same = (np.diff(sorted_times) == 0) & (np.diff(order.sequence) == 0)
    if same.any():
        place = int(np.flatnonzero(same)[0]) + 1
        codes, names = table.texts[SEQUENCE]
        raise DataError(
            f"{table.where(int(order.rows[place]))}: sequence "
            f"{names[codes[order.rows[place]]]!r} has time {sorted_times[place]:g} twice",
            allowed="each once",
        )


def targets_of(labels: list[str]) -> list[str] | list[int] | torch.Tensor:
    """Return labels as integers or real numbers where all of them are such."""
    if any("_" in label for label in labels):
        # Python reads 1_000 as a number, and nothing else does.
        return labels
    try:
        return [int(label) for label in labels]
    except ValueError:
        pass
    try:
        return torch.tensor([float(label) for label in labels], dtype=torch.float64)
    except ValueError:
        return labels
