"""Series in records: one sequence in each, with its steps under x and its target under y."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmith.core.errors import DataError
from ssmith.core.words import number_of
from ssmith.data.pool import pad_series
from ssmith.data.raw import Raw
from ssmith.data.records import Records, read_records


def read_series(path: Path, columns: Sequence[str] = (), *, labelled: bool = True) -> Raw:
    """Read one sequence per record: ``{"x": [...], "y": ..., "split": "train"}``.

    ``x`` is a list of numbers (one channel) or of rows of numbers; ``y`` a string or integer
    (a class) or a real number or a list of them; ``split`` stands in every record or in none, and
    the named ``columns`` in every record. Other keys are counted and ignored. Without ``labelled``
    there need be no ``y``, and every one is 0.
    """
    records, needed = read_records(path), ("x", *["y"] * labelled, *columns)
    names = [records.where(place) for place in range(len(records.rows))]
    for row, where in zip(records.rows, names, strict=True):
        lacks = [key for key in needed if row.get(key) is None]
        if lacks:
            raise DataError(
                f"{where} has no {lacks[0]}, of {', '.join(row) or 'no keys'}",
                allowed=f"{', '.join(needed)} and, if wanted, split",
            )
    series = [_matrix(row["x"], where) for row, where in zip(records.rows, names, strict=True)]
    _require_equal_channels(series, names)
    return Raw(
        path=path,
        x=pad_series(series),
        lengths=torch.tensor([len(one) for one in series]),
        y=_targets(records, path) if labelled else [0] * len(series),
        split_of=records.optional("split"),
        names=names,
        columns={name: [str(row[name]) for row in records.rows] for name in columns},
        ignored=records.ignored({"x", "y", "split", *columns}, ("split",)),
    )


def _matrix(x: Any, where: str) -> Tensor:
    try:
        values = np.asarray(x)
    except ValueError as error:
        raise DataError(f"{where}: rows of x differ in length", allowed="equal rows") from error
    if values.dtype.kind not in "iuf" or values.ndim not in {1, 2} or not values.size:
        raise DataError(
            f"{where}: x has shape {values.shape} and type {values.dtype}",
            allowed="a list of numbers, or of rows of numbers; tokens go into a .npz",
        )
    return torch.from_numpy(values.astype(np.float64).reshape(len(values), -1))


def _require_equal_channels(series: list[Tensor], names: list[str]) -> None:
    for one, name in zip(series, names, strict=True):
        if one.shape[1] != series[0].shape[1]:
            raise DataError(
                f"{name}: x has {number_of(one.shape[1], 'channel')}",
                allowed=f"{series[0].shape[1]}, as the first sequence has",
            )


def _targets(records: Records, path: Path) -> list[str] | list[int] | Tensor:
    y = [row["y"] for row in records.rows]
    kinds = {type(value) for value in y}
    if kinds in ({str}, {int}):
        return y
    if kinds <= {int, float, list}:
        try:
            values = np.asarray(y)
        except ValueError:
            values = np.asarray(None)
        if values.dtype.kind in "iuf":
            return torch.from_numpy(values.astype(np.float64))
    raise DataError(
        f"{path.name}: y mixes {', '.join(sorted(kind.__name__ for kind in kinds))}, "
        "or its lists differ in length",
        allowed="all strings, all integers, all real numbers, or lists of numbers of one length",
    )
