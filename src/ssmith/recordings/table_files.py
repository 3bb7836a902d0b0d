"""Files of tables, a part at a time: text of any separator and encoding, Arrow, lines of JSON."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from ssmith.core.errors import DataError
from ssmith.data.arrow import ARROW, arrow_parts, is_dataset
from ssmith.data.csv_file import CSV
from ssmith.data.files import MOST, PACKED, opened, require_there, suffix_of, unpacks_to_more
from ssmith.data.records import JSON, read_records
from ssmith.recordings.columns import Columns, reads

TABLES = (*CSV, ".txt", *ARROW, *JSON)
ROWS = 1 << 16
"""Most rows of a part."""
GUESSED = "cp1252"
_SEPARATORS = (",", ";", "\t", "|")
_GAPS = ("", " ", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "-")
_SAMPLE, _BLOCK = 1 << 16, 1 << 20


def is_table(path: Path) -> bool:
    """Return whether a path's name says that it holds a table."""
    return is_dataset(path) if path.is_dir() else suffix_of(path) in TABLES


def read_columns(path: Path) -> Columns:
    """Read a whole table (see `table_parts`)."""
    found, size = [], 0
    for part in table_parts(path, rows=1 << 62):
        found.append(part)
        size += part.table.nbytes
        if path.suffix.lower() == PACKED and size > MOST:
            raise unpacks_to_more(path)
    first, *more = found
    if not more:
        return first
    lib = import_module("pyarrow")
    try:
        tables = [part.table for part in (first, *more)]
        return replace(first, table=lib.concat_tables(tables, promote_options="permissive"))
    except (lib.ArrowException, TypeError) as error:
        raise _unlike(path, error) from error


def table_parts(path: Path, rows: int | None = None) -> Iterator[Columns]:
    """Yield the columns of a table a part of at most ``rows`` at a time, at least one part.

    Separators are commas, semicolons, tabs and bars, the one that stands most often in the first
    line; but with commas, numbers may have decimal commas. Text is UTF-8, UTF-16 with its mark, or
    else CP1252, which is said in the details. A second row without numbers, over columns of
    numbers, holds units. Raises `InputError` if there is no such file, `DataError` if it is no
    table.
    """
    require_there(path)
    parts: Iterator[Columns]
    if path.is_dir() or suffix_of(path) in ARROW:
        parts = (Columns(path=path, table=table) for table in arrow_parts(path, rows or ROWS))
    elif suffix_of(path) in JSON:
        parts = _of_records(path, rows or ROWS)
    else:
        parts = _of_text(path)
    done = 0
    for part in parts:
        for start in range(0, max(1, len(part)), rows or ROWS):
            table = part.table.slice(start, rows or ROWS)
            yield replace(part, table=table, first=part.first + done)
            done += len(table)


def _of_records(path: Path, rows: int) -> Iterator[Columns]:
    lib = import_module("pyarrow")
    schema = None
    for part in _records(path, rows):
        try:
            table = lib.Table.from_pylist(part)
            # One kind for a name in all parts.
            schema = lib.unify_schemas(
                [schema or table.schema, table.schema], promote_options="permissive"
            )
        except (lib.ArrowException, TypeError) as error:
            raise _unlike(path, error) from error
        lacks = [name for name in schema.names if name not in table.column_names]
        for name in lacks:
            table = table.append_column(name, lib.nulls(len(table), schema.field(name).type))
        yield Columns(path=path, table=table)


def _records(path: Path, rows: int) -> Iterator[list[dict[str, Any]]]:
    with opened(path) as stream:
        head = stream.read(_SAMPLE).removeprefix(codecs.BOM_UTF8).lstrip()
    if not _begins_lines(head):
        yield read_records(path).rows
        return
    with opened(path) as stream:
        lines = (line for line in enumerate(stream, 1) if line[1].strip())
        while part := list(itertools.islice(lines, rows)):
            yield [_object(path, number, line) for number, line in part]


def _begins_lines(head: bytes) -> bool:
    """Return whether the first line is an object by itself."""
    try:
        return isinstance(json.loads(head.splitlines()[0]), dict)
    except (ValueError, IndexError, RecursionError):
        return False


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path.name} line {number} is not JSON: {error}", allowed="one object per line"
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"{path.name} line {number} is a {type(found).__name__}: {str(found)[:60]}",
            allowed="objects: names and values",
        )
    return found


def _unlike(path: Path, error: Exception) -> DataError:
    reason = str(error).splitlines()[0]
    return DataError(
        f"{path.name}: values of one name differ in kind ({reason})", allowed="one kind a name"
    )


def _of_text(path: Path) -> Iterator[Columns]:
    encoding = _encoding(path)
    header, separator = _header(path, encoding)
    details = {} if separator == "," else {"separated_by": separator}
    details |= {} if encoding == "utf-8" else {"encoding": encoding}
    about = Columns(path=path, table=None, comma=separator != ",", first=2, details=details)
    tables = (table for table in _parsed(path, encoding, header, separator) if len(table))
    table = next(tables, None)
    units = {} if table is None else _units(table)
    if table is not None and units:
        table = table.slice(1)
    if table is None or not table.num_rows:
        raise DataError(f"{path.name} has no row below its header", next_step="check the file")
    about = replace(about, units=units, first=3 if units else 2)
    for each in itertools.chain([table], tables):
        yield replace(about, table=each)


def _encoding(path: Path) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opened(path) as stream:
        if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        stream.seek(0)
        try:
            while block := stream.read(_BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return GUESSED
    return "utf-8"


class _Utf8(io.RawIOBase):
    """A stream of text as UTF-8 without a mark, whatever it was written in."""

    def __init__(self, stream: io.BufferedIOBase, encoding: str) -> None:
        name = "utf-8-sig" if encoding == "utf-8" else encoding
        self.text = io.TextIOWrapper(cast(Any, stream), name, errors="replace", newline="")
        self.left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.left:
            self.left = self.text.read(_SAMPLE).encode()
        count = min(len(buffer), len(self.left))
        buffer[:count], self.left = self.left[:count], self.left[count:]
        return count


@contextmanager
def _utf8(path: Path, encoding: str) -> Iterator[Any]:
    with opened(path) as stream, io.BufferedReader(_Utf8(stream, encoding), _SAMPLE) as text:
        yield text


def _header(path: Path, encoding: str) -> tuple[list[str], str]:
    with _utf8(path, encoding) as stream:
        lines = io.TextIOWrapper(stream, "utf-8")
        line = next((line for line in lines if line.strip()), "").rstrip("\r\n")
    separator = max(_SEPARATORS, key=lambda item: (line.count(item), item == ","))
    cells = next(csv.reader([line], delimiter=separator), [])
    # Tables that count their rows give that column no name.
    header = [name.strip() or f"column {place}" for place, name in enumerate(cells, 1)]
    twice = [name for name, count in Counter(header).items() if count > 1]
    if not header or twice:
        raise DataError(
            f"{path.name} has columns {', '.join(map(repr, header)) or 'none'}",
            allowed="a name for each column in the first row, each once",
            next_step="write names into the first row of the file",
        )
    return header, separator


def _parsed(path: Path, encoding: str, header: list[str], separator: str) -> Iterator[Any]:
    lib, reader = import_module("pyarrow"), import_module("pyarrow.csv")
    parsing = reader.ParseOptions(delimiter=separator, newlines_in_values=True)
    converting = reader.ConvertOptions(
        column_types=dict.fromkeys(header, lib.string()),
        null_values=list(_GAPS), strings_can_be_null=True,
    )  # fmt: skip
    try:
        with _utf8(path, encoding) as stream:
            # Block by block: pyarrow's own stream reads ahead in threads, which end the process
            # where one is left when Python stops.
            for number, block in enumerate(_rows_of(stream)):
                reading = reader.ReadOptions(
                    column_names=header, skip_rows_after_names=0 if number else 1,
                    use_threads=False, block_size=max(_BLOCK, len(block)),
                )  # fmt: skip
                yield reader.read_csv(
                    lib.BufferReader(block),
                    read_options=reading, parse_options=parsing, convert_options=converting,
                )  # fmt: skip
    except lib.ArrowException as error:
        with _utf8(path, encoding) as stream:
            _explain(path, io.TextIOWrapper(stream, "utf-8", newline=""), len(header), separator)
        reason = str(error).splitlines()[0]
        raise DataError(f"{path.name} is not a table: {reason}", next_step="correct it") from error


def _rows_of(stream: Any) -> Iterator[bytes]:
    """Yield a text in blocks of whole rows."""
    held = b""
    while given := stream.read(_BLOCK):
        held += given
        end = held.rfind(b"\n") + 1
        # A row goes on where a quote is open.
        while end and held.count(b'"', 0, end) % 2:
            end = held.rfind(b"\n", 0, end - 1) + 1
        if end:
            yield held[:end]
            held = held[end:]
    if held:
        yield held


def _explain(path: Path, lines: Iterable[str], cells: int, separator: str) -> None:
    """Raise at the first row that does not fit the header."""
    for number, row in enumerate(csv.reader(lines, delimiter=separator), start=1):
        if row and len(row) != cells:
            raise DataError(
                f"{path.name} row {number} has {len(row)} cells",
                allowed=f"{cells}, as the header",
                next_step="correct the row; a text with the separator in it needs quotes",
            )


def _units(table: Any) -> dict[str, str]:
    """Return the units in a table's first row, if it is one of them: no numbers over numbers."""
    if table.num_rows < 2:
        return {}
    rows = table.slice(0, min(5, table.num_rows)).to_pylist()
    first, rest = rows[0], rows[1:]
    numeric = [name for name in table.column_names
               if all(row[name] is None or reads(row[name]) for row in rest)
               and any(row[name] is not None for row in rest)]  # fmt: skip
    named = [name for name in numeric if first[name] is not None and not reads(first[name])]
    if not named or any(reads(first[name] or "x") for name in numeric):
        return {}
    return {name: str(first[name]).strip().strip("[]()") for name in named}
