"""Folders of files, one recording each: labels are the names of folders, or stand in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.sequences import SPLITS
from ssmith.recordings.recording import Recordings
from ssmith.recordings.table_files import read_columns

TABLES = ("labels.csv", "labels.tsv", "metadata.csv")
_FILE, _LABEL, _GROUP, _SPLIT = ("file", "file_name", "path"), "label", "group", "split"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One file, its name in the folder, and what is said of it."""

    path: Path
    name: str
    label: str = ""
    group: str = ""
    split: str = ""


def entries_of(path: Path, suffixes: Sequence[str]) -> list[Item]:
    """Return the files of a folder that have one of some suffixes, in the order of their names.

    With a table of labels (``labels.csv`` with ``file``, ``label``, and if wanted ``group`` and
    ``split``) those that it names. Else all; the label is the topmost folder a file lies in that
    has no split's name, and the split the topmost one that has. Raises `DataError` if there is
    none, or a table names one that is not there.
    """
    if path.is_file():
        return [Item(path=path, name=path.name)]
    table = next((path / name for name in TABLES if (path / name).is_file()), None)
    if table is not None:
        return _by_table(path, table)
    files = sorted(
        item for item in path.rglob("*")
        if item.suffix.lower() in suffixes and item.is_file()
        and not any(part.startswith(".") for part in item.relative_to(path).parts)
    )  # fmt: skip
    if not files:
        raise DataError(f"{path} holds no {', '.join(suffixes)}", next_step="check the folder")
    return [_placed(path, item) for item in files]


def recordings_of(
    path: Path,
    entries: Sequence[Item],
    channels: tuple[str, ...],
    values: Sequence[NDArray[np.float64]],
) -> Recordings:
    """Return files as recordings."""
    labelled = says(entries)
    return Recordings(
        path=path,
        names=tuple(entry.name for entry in entries),
        channels=channels,
        values=tuple(values),
        labels=tuple(np.array([[entry.label]]) for entry in entries) if labelled else None,
        targets=("label",) if labelled else (),
        groups=_all([entry.group for entry in entries], path, _GROUP),
        splits=_all([entry.split for entry in entries], path, _SPLIT),
    )


def says(entries: Sequence[Item]) -> bool:
    """Return whether any file has a label."""
    return any(entry.label for entry in entries)


def holds(path: Path, suffixes: Sequence[str]) -> bool:
    """Return whether a path is such a file, or a folder with one in it, at any depth."""
    if path.is_file():
        return path.suffix.lower() in suffixes
    return any(item.suffix.lower() in suffixes for item in path.rglob("*"))


def _placed(folder: Path, item: Path) -> Item:
    parts = item.relative_to(folder).parts[:-1]
    above = [part for part in parts if part in SPLITS]
    named = [part for part in parts if part not in SPLITS]
    return Item(
        path=item,
        name=item.relative_to(folder).as_posix(),
        # Folders further down are how it is kept: a speaker, a day.
        label=named[0] if named else "",
        split=above[0] if above else "",
    )


def _by_table(folder: Path, table: Path) -> list[Item]:
    columns = read_columns(table)
    key = next((name for name in _FILE if name in columns.names), "")
    if not key:
        raise DataError(
            f"{table} has columns {', '.join(columns.names)}",
            allowed="file, label, and if wanted group and split",
        )
    told = {name: columns.texts(name) for name in (key, _LABEL, _GROUP, _SPLIT)
            if name in columns.names}  # fmt: skip
    found = []
    for row, name in enumerate(told.pop(key).tolist()):
        place = folder / name
        if not place.resolve().is_relative_to(folder.resolve()) or not place.is_file():
            raise DataError(
                f"{columns.where(row)} names {name!r}", allowed=f"files inside {folder}"
            )
        said = {column: str(values[row]) for column, values in told.items()}
        found.append(Item(path=place, name=name, **said))
    return found


def _all(said: list[str], path: Path, what: str) -> tuple[str, ...] | None:
    """Return what is said of all files, None where it is said of none."""
    if not any(said):
        return None
    if not all(said):
        raise DataError(
            f"{path}: {said.count('')} of {len(said)} files have no {what}",
            allowed=f"a {what} for all files, or for none",
        )
    return tuple(said)
