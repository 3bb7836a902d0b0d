"""What a file holds, by its name and the keys of its first record."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ssmith.data.csv_file import CSV, header_of
from ssmith.data.files import read_text, require_there, suffix_of
from ssmith.data.records import first_keys, holds_records
from ssmith.data.table import is_long
from ssmith.data.ts_file import TS, is_ts

_SERIES = ["x", "y"]


def keys_of(path: Path) -> list[str] | None:
    """Return the names of what each record of a file holds, at little cost; None for plain text.

    Keys or columns; those of any series for files that hold nothing else. Raises `InputError` if
    there is nothing, `DataError` if it cannot be read.
    """
    suffix = suffix_of(path)
    if suffix == ".npz":
        return _SERIES
    if holds_records(path):
        return first_keys(path)
    if path.is_dir():
        return None
    if suffix in CSV:
        require_there(path)
        header = header_of(path)[0]
        return header if is_long(header) or not {"text"} & set(header) else None
    return _SERIES if suffix == TS and path.is_file() and is_ts(read_text(path)) else None


def is_series(keys: Collection[str]) -> bool:
    """Return whether records with these keys are series: steps and a target, or rows of steps."""
    return {"x", "y"} <= set(keys) or is_long(list(keys))
