"""Tables of answers on disk: CSV, Parquet or lines of JSON, part by part, whole or absent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from ssmith.core.errors import InputError
from ssmith.core.files import finite_or_none, writing

SUFFIXES = (".csv", ".jsonl", ".parquet")
Put = Callable[[Any], None]
_ROWS_AT_ONCE = 65536


def check_suffix(path: Path) -> None:
    """Refuse a file of a kind that is not written."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"answers in {str(path)!r}", allowed=f"a file that ends in {', '.join(SUFFIXES)}"
        )


def table_of(columns: Mapping[str, Any]) -> Any:
    """Return columns as a table of Arrow, with a gap where a number is not known."""
    lib = import_module("pyarrow")
    return lib.table({name: lib.array(_plain(values)) for name, values in columns.items()})


def write_tables(path: Path, schemas: Sequence[Any], tables: Iterable[Any]) -> None:
    """Write tables below each other into one file, the same whatever their sizes are."""
    lib = import_module("pyarrow")
    # A column that has no value in one table may have some in another.
    schema = lib.unify_schemas(list(schemas), promote_options="permissive")
    with table_writer(path, schema) as put:
        for table in _resized(table.cast(schema) for table in tables):
            put(table)


@contextmanager
def table_writer(path: Path, schema: Any) -> Iterator[Put]:
    """Yield what takes one table of these columns after the other; the file is there at the end."""
    check_suffix(path)
    kind = path.suffix.lower()
    with writing(path) as stream:
        if kind == ".jsonl":
            yield lambda table: _put_lines(stream, table)
            return
        made = import_module("pyarrow.csv" if kind == ".csv" else "pyarrow.parquet")
        writer = made.CSVWriter if kind == ".csv" else made.ParquetWriter
        with writer(stream, schema) as out:
            yield out.write_table


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON holds it; numbers that are not finite are null."""
    return {
        name: _finite(value.item() if hasattr(value, "item") else value)
        for name, value in row.items()
    }


def _put_lines(stream: BinaryIO, table: Any) -> None:
    for row in table.to_pylist():
        stream.write(json.dumps(plain_row(row), ensure_ascii=False).encode() + b"\n")


def _resized(tables: Iterable[Any]) -> Iterator[Any]:
    """Yield the same rows so many at a time: they are groups in a Parquet file."""
    lib = import_module("pyarrow")
    waiting: list[Any] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) >= _ROWS_AT_ONCE:
            joined = lib.concat_tables(waiting)
            yield joined.slice(0, _ROWS_AT_ONCE).combine_chunks()
            waiting = [joined.slice(_ROWS_AT_ONCE)]
    rest = lib.concat_tables(waiting) if waiting else None
    if rest is not None and len(rest):
        yield rest.combine_chunks()


def _finite(value: Any) -> Any:
    return finite_or_none(value) if isinstance(value, float) else value


def _plain(values: Any) -> Any:
    if not hasattr(values, "dtype"):
        return values
    return [_finite(value) for value in values.tolist()]
