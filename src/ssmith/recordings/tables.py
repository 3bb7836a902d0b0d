"""A folder of tables: each file a recording, or channels of other rates side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ssmith.core.errors import DataError
from ssmith.core.preparation import PrepareConfig
from ssmith.data.files import suffix_of
from ssmith.recordings.columns import Columns
from ssmith.recordings.table_files import TABLES, read_columns, table_parts

_SEQUENCE, _LABEL, _TIME = "sequence", "label", "time"


def files_in(path: Path) -> list[Path]:
    """Return the tables in a folder, at any depth, in the order of their names."""
    if not path.is_dir():
        return []
    return sorted(
        item for item in path.rglob("*")
        if item.is_file() and suffix_of(item) in TABLES and not item.name.startswith(".")
    )  # fmt: skip


def read_tables(path: Path, config: PrepareConfig) -> Columns:
    """Read the tables of a folder as one.

    Of files of the same columns each is a recording, called after its file, and the folder that it
    lies in is its label, unless columns say either. Files of other columns were measured at rates
    of their own: rows of one time (and one recording) are put together, and what a rate has not
    is a gap, which takes the last value before it.
    """
    parts = [(item, read_columns(item)) for item in files_in(path)]
    first = parts[0][1]
    if all(set(part.names) == set(first.names) for _, part in parts):
        table = _one_below_the_other(path, parts, config)
    else:
        table = _side_by_side(path, parts, config)
    units = {name: unit for _, part in parts for name, unit in part.units.items()}
    return replace(
        first, path=path, table=table, units=units, comma=any(part.comma for _, part in parts),
        details={"files": len(parts)},
    )  # fmt: skip


def are_alike(path: Path) -> bool:
    """Return whether all tables of a folder have the same columns."""
    names = (set(next(table_parts(item, rows=1)).names) for item in files_in(path))
    first = next(names)
    return all(other == first for other in names)


def parts_of_tables(path: Path, config: PrepareConfig) -> Iterator[Columns]:
    """Read the tables of a folder, which have the same columns, a part at a time."""
    for item in files_in(path):
        for part in table_parts(item):
            yield replace(part, path=path, table=_named(part, item.relative_to(path), config))


def _named(part: Columns, place: Path, config: PrepareConfig) -> Any:
    """Return a table with what its file is called, and the folder that it lies in."""
    lib, table = import_module("pyarrow"), part.table
    named = {_SEQUENCE: place.as_posix()} if config.sequence in (None, _SEQUENCE) else {}
    if config.label in ((), (_LABEL,)) and len(place.parts) > 1:
        named[_LABEL] = place.parts[0]
    for name, value in named.items():
        if name not in part.names:
            table = table.append_column(name, lib.array([value] * len(part)))
    return table


def _one_below_the_other(
    path: Path, parts: list[tuple[Path, Columns]], config: PrepareConfig
) -> Any:
    tables = [_named(part, item.relative_to(path), config) for item, part in parts]
    return import_module("pyarrow").concat_tables(tables, promote_options="permissive")


def _side_by_side(path: Path, parts: list[tuple[Path, Columns]], config: PrepareConfig) -> Any:
    keys = [config.time or _TIME] + ([] if config.sequence is None else [config.sequence])
    for item, part in parts:
        lacks = [name for name in keys if name not in part.names]
        if lacks:
            raise DataError(
                f"{item} has no column {lacks[0]!r}, and other columns than "
                f"{parts[0][0].relative_to(path)}",
                allowed="files of the same columns, or a time in each of them to align them by",
                next_step="name it: --time COLUMN",
            )
    joined = import_module("pyarrow").concat_tables(
        [part.table for _, part in parts], promote_options="permissive"
    )
    others = [name for name in joined.column_names if name not in keys]
    found = joined.group_by(keys).aggregate([(name, "max") for name in others])
    return found.rename_columns([name.removesuffix("_max") if name.removesuffix("_max") in others
                                 else name for name in found.column_names])  # fmt: skip
