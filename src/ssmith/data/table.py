"""The table format: ``.csv`` in long form with one step per row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssmith.core.errors import DataError
from ssmith.data.pool import pad_series
from ssmith.data.raw import NAME, Raw
from ssmith.data.rows import check_cells, read_rows
from ssmith.data.text import require_columns, require_some

_RESERVED = ("sequence", "time", "label", "split")


def read_csv(path: Path, columns: Sequence[str] = ()) -> Raw:
    """Read a table in long form: one row per step, a header, columns in any order.

    ``sequence`` and ``label`` are required, ``time`` and ``split`` are not; every other column
    is a channel, unless it is named in ``columns``. Rows of one sequence are sorted by ``time``
    if it is there, else they keep their order. A sequence has one label, one split, and one value
    of each named column.
    """
    rows = read_rows(path)
    require_some(rows, path)
    header = [name.strip() for name in rows[0]]
    channels = _channels(header, path, columns)
    found: dict[str, _Sequence] = {}
    for number, row in enumerate(rows[1:], start=2):
        if row:
            cells = _cells(row, header, f"{path.name} row {number}")
            _add_row(found, cells, channels, columns, f"{path.name} row {number}")
    require_some(list(found), path)
    series = [one.ordered(f"{path.name} sequence {name!r}") for name, one in found.items()]
    return Raw(
        path=path,
        x=pad_series(series),
        lengths=torch.tensor([len(one) for one in series]),
        y=_csv_targets([one.label for one in found.values()]),
        split_of=[one.split for one in found.values()] if "split" in header else None,
        names=[repr(name) for name in found],
        columns={NAME: list(found)}
        | {
            name: [one.beside[place] for one in found.values()]
            for place, name in enumerate(columns)
        },
    )


@dataclass
class _Sequence:
    """The rows of one sequence of a table, as they come in."""

    label: str
    split: str
    beside: tuple[str, ...] = ()
    times: list[float] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)

    def ordered(self, where: str) -> Tensor:
        """Return the steps in order of time."""
        steps = torch.tensor(self.rows, dtype=torch.float64)
        if not self.times:
            return steps
        if not np.isfinite(self.times).all():
            raise DataError(f"{where} has a time that is not finite", allowed="finite numbers")
        order = sorted(range(len(self.times)), key=self.times.__getitem__)
        for a, b in pairwise(order):
            if self.times[a] == self.times[b]:
                raise DataError(f"{where} has time {self.times[a]:g} twice", allowed="each once")
        return steps[order]


def _cells(row: list[str], header: list[str], where: str) -> dict[str, str]:
    check_cells(row, header, where)
    return {name: cell.strip() for name, cell in zip(header, row, strict=True)}


def _add_row(
    found: dict[str, _Sequence],
    cells: dict[str, str],
    channels: list[str],
    columns: Sequence[str],
    where: str,
) -> None:
    label, split = cells["label"], cells.get("split", "")
    if not label:
        raise DataError(
            f"{where}, column 'label': the cell is empty",
            allowed="the same label in all rows of a sequence",
            next_step="fill it in, or leave the sequence out",
        )
    beside = tuple(cells[name] for name in columns)
    one = found.setdefault(cells["sequence"], _Sequence(label=label, split=split, beside=beside))
    if one.beside != beside:
        raise DataError(
            f"{where}: sequence {cells['sequence']!r} changes from {', '.join(one.beside)} to "
            f"{', '.join(beside)}",
            allowed=f"one value of {', '.join(columns)} for a sequence",
            next_step="correct the row, or give its sequence another name",
        )
    if (one.label, one.split) != (label, split):
        raise DataError(
            f"{where}: sequence {cells['sequence']!r} changes its label or split "
            f"from {one.label!r}, {one.split!r} to {label!r}, {split!r}",
            allowed="one label and one split for a sequence",
            next_step="correct the row, or give its sequence another name",
        )
    one.rows.append([_number(cells[name], f"{where}, column {name!r}") for name in channels])
    if "time" in cells:
        one.times.append(_number(cells["time"], f"{where}, column 'time'"))


def _channels(header: list[str], path: Path, columns: Sequence[str]) -> list[str]:
    require_columns(columns, header, path)
    channels = [name for name in header if name not in (*_RESERVED, *columns)]
    complete = "sequence" in header and "label" in header and channels
    if not complete or len(set(header)) < len(header) or "" in header:
        raise DataError(
            f"{path.name} has columns {', '.join(header)}",
            allowed="sequence, label, at least one channel, and if wanted time and split; "
            "each once",
            next_step="rename or add columns in the first row of the file",
        )
    return channels


def _number(text: str, where: str) -> float:
    if not text:
        raise DataError(
            f"{where}: the cell is empty",
            allowed="numbers",
            next_step="fill it in, or leave the row out: sequences may differ in length",
        )
    try:
        return float(text)
    except ValueError as error:
        raise DataError(
            f"{where}: {text!r} is not a number",
            allowed="numbers",
            next_step="correct the cell, or drop the column if it is no channel",
        ) from error


def _csv_targets(labels: list[str]) -> list[str] | list[int] | Tensor:
    try:
        return [int(label) for label in labels]
    except ValueError:
        pass
    try:
        return torch.tensor([float(label) for label in labels], dtype=torch.float64)
    except ValueError:
        return labels
