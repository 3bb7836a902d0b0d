"""The line format: ``.jsonl`` with one sequence per line."""

from __future__ import annotations

import json
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
from ssmith.data.text import read_text, require_some


def read_jsonl(path: Path, columns: Sequence[str] = ()) -> Raw:
    """Read one object per line: ``{"x": [...], "y": ..., "split": "train"}``.

    ``x`` is a list of numbers (one channel) or of rows of numbers; ``y`` a string or integer
    (a class) or a real number or a list of them; ``split`` stands in every line or in none, and
    the named ``columns`` in every line.
    """
    records: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path.name} line {number}"
            records.append((where, _record(line, where, columns)))
    require_some(records, path)
    series = [_matrix(record["x"], where) for where, record in records]
    _require_equal_channels(series, [where for where, _ in records])
    return Raw(
        path=path,
        x=pad_series(series),
        lengths=torch.tensor([len(one) for one in series]),
        y=_json_targets([record["y"] for _, record in records], path),
        split_of=_json_splits(records),
        names=[where for where, _ in records],
        columns={name: [str(record[name]) for _, record in records] for name in columns},
    )


def _record(line: str, where: str, columns: Sequence[str]) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}", allowed="one object per line") from error
    needed = {"x", "y", *columns}
    if not isinstance(record, dict) or not needed <= set(record) <= {*needed, "split"}:
        given = ", ".join(record) if isinstance(record, dict) else type(record).__name__
        allowed = f"{', '.join(('x', 'y', *columns))} and, if wanted, split"
        raise DataError(f"{where} has {given or 'nothing'}", allowed=allowed)
    return record


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


def _json_targets(y: list[Any], path: Path) -> list[str] | list[int] | Tensor:
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


def _json_splits(records: list[tuple[str, dict[str, Any]]]) -> list[str] | None:
    if not any("split" in record for _, record in records):
        return None
    for where, record in records:
        if not isinstance(record.get("split"), str):
            raise DataError(f"{where} has no split", allowed="a split in every line, or in none")
    return [record["split"] for _, record in records]
