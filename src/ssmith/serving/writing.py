"""Tables of answers on disk: CSV, Parquet or lines of JSON, batch by batch, whole or absent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from ssmith.core.errors import InputError
from ssmith.core.files import finite_or_none, writing

SUFFIXES = (".csv", ".jsonl", ".parquet")
Put = Callable[[Mapping[str, Any]], None]


def check_suffix(path: Path) -> None:
    """Refuse a file of a kind that is not written."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"answers in {str(path)!r}", allowed=f"a file that ends in {', '.join(SUFFIXES)}"
        )


@contextmanager
def table_writer(path: Path) -> Iterator[Put]:
    """Yield what takes columns of one batch after the other; the file is there at the end."""
    check_suffix(path)
    with writing(path) as stream, _Table(stream, path.suffix.lower()) as table:
        yield table.put


class _Table:
    def __init__(self, stream: BinaryIO, kind: str) -> None:
        self.stream, self.kind = stream, kind
        self.writer: Any = None
        self.schema: Any = None

    def put(self, columns: Mapping[str, Any]) -> None:
        """Write some rows; later ones have the columns of the first."""
        lib = import_module("pyarrow")
        table = lib.table({name: lib.array(_plain(values)) for name, values in columns.items()})
        if self.schema is None:
            self.schema = table.schema
        table = table.cast(self.schema)
        if self.kind == ".jsonl":
            for row in table.to_pylist():
                text = json.dumps(plain_row(row), ensure_ascii=False)
                self.stream.write(text.encode() + b"\n")
            return
        if self.writer is None:
            home = "pyarrow.csv" if self.kind == ".csv" else "pyarrow.parquet"
            made = import_module(home)
            kind = made.CSVWriter if self.kind == ".csv" else made.ParquetWriter
            self.writer = kind(self.stream, self.schema)
        self.writer.write_table(table)

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON holds it; numbers that are not finite are null."""
    return {
        name: _finite(value.item() if hasattr(value, "item") else value)
        for name, value in row.items()
    }


def _finite(value: Any) -> Any:
    return finite_or_none(value) if isinstance(value, float) else value


def _plain(values: Any) -> Any:
    """Return a column with a gap where a number is not known."""
    if not hasattr(values, "dtype"):
        return values
    return [_finite(value) for value in values.tolist()]
