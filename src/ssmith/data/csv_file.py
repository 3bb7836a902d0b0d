"""Tables of text: read in columns, and once more row by row where something is wrong."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.words import number_of
from ssmith.data.arrow import as_stored
from ssmith.data.files import PACKED, read_bytes, read_text, require_there

CSV = (".csv", ".tsv")
_DELIMITERS = (",", ";", "\t")
Texts = tuple[NDArray[Any], list[str]]
Check = Callable[[list[str]], None]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns of a table.

    Args:
        name: of the file.
        texts: of columns of names: the number of each row's, and what they are, each once.
        numbers: of columns of numbers.
        size: rows.
        places: of each row in the file, the header being row 1; None where every row has the one
            after that of the row before.
        details: how it was read.
    """

    name: str
    texts: dict[str, Texts]
    numbers: dict[str, NDArray[np.float64]]
    size: int
    places: Sequence[int] | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def where(self, row: int) -> str:
        """Return what a row is called in errors."""
        return f"{self.name} row {row + 2 if self.places is None else self.places[row]}"

    @classmethod
    def of(cls, found: Any, name: str, *, texts: Sequence[str], times: Sequence[str]) -> Table:
        """Return an Arrow table as columns of names and columns of numbers."""
        lib = import_module("pyarrow")
        columns: dict[str, Texts] = {}
        numbers: dict[str, NDArray[np.float64]] = {}
        for column in found.column_names:
            values = found[column]
            if values.null_count:
                row = values.to_pylist().index(None)
                raise _empty(f"{name} row {row + 1}, column {column!r}")
            if column in texts:
                columns[column] = _names(values)
                continue
            if lib.types.is_temporal(values.type) and column in times:
                values = values.cast(lib.timestamp("us")).cast(lib.int64())
            try:
                # A cast loads all that pyarrow can compute, which takes longer than most files.
                plain = values.type == lib.float64()
                values = values if plain else values.cast(lib.float64())
                numbers[column] = as_stored(values.chunks, np.float64)
            except lib.ArrowException as error:
                raise DataError(
                    f"{name}, column {column!r} is of type {values.type}",
                    allowed="numbers",
                    next_step="drop the column if it is no channel",
                ) from error
        return cls(name=name, texts=columns, numbers=numbers, size=len(found))


def read_table(
    path: Path,
    *,
    texts: Sequence[str],
    times: Sequence[str],
    check: Check,
    exact: bool = False,
) -> Table:
    """Read the columns of a ``.csv`` file, packed or not.

    Commas, semicolons and tabs separate; where it is not the comma, numbers may be written with
    one. ``texts`` are columns that hold names, ``times`` those that may hold times; all others hold
    numbers. ``check`` raises if the header is not as it should be; ``exact`` reads slowly, with the
    place of every row in the file. Raises `InputError` if there is no such file, `DataError` with
    the row and the column of the first cell that cannot be read.
    """
    require_there(path)
    header, delimiter = header_of(path)
    check(header)
    found = None if exact else _fast(path, header, delimiter, texts, times)
    return found or _slow(path, header, delimiter, texts, times)


def read_rows(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table as texts, with their numbers, the header's among them."""
    text = read_text(path)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        for number, row in enumerate(rows, start=1):
            if row:
                yield number, row
    except csv.Error as error:
        raise DataError(
            f"{path.name} is not a table: {error}",
            allowed="comma-separated",
            next_step="correct its quotes and commas, or write .jsonl",
        ) from error


def check_cells(row: list[str], header: list[str], where: str) -> None:
    """Refuse a row that does not fit the header."""
    if len(row) != len(header):
        raise DataError(
            f"{where} has {number_of(len(row), 'cell')}",
            allowed=f"{len(header)}, as the header",
            next_step="correct the row; a text with a comma in it needs quotes",
        )


def header_of(path: Path) -> tuple[list[str], str]:
    """Return the names in the first row, and what separates them."""
    packed = path.suffix.lower() == PACKED
    try:
        with (
            gzip.open(path) if packed else path.open("rb") as stream,
            io.TextIOWrapper(cast(IO[bytes], stream), encoding="utf-8-sig", newline="") as text,
        ):
            line = next((line for line in text if line.strip()), "")
    except (OSError, EOFError, UnicodeDecodeError):
        line = read_text(path)
    delimiter = max(_DELIMITERS, key=lambda item: (line.count(item), item == ","))
    row = next((row for _, row in read_rows(path, delimiter)), []) if '"' in line else None
    if row is None:
        row = line.rstrip("\r\n").split(delimiter) if line.strip() else []
    if not row:
        raise DataError(f"{path.name} has no sequence", next_step="check how it was written")
    return [name.strip() for name in row], delimiter


def _fast(
    path: Path, header: list[str], delimiter: str, texts: Sequence[str], times: Sequence[str]
) -> Table | None:
    """Return the columns if every cell is what it should be, and None if any is not."""
    lib, reader = import_module("pyarrow"), import_module("pyarrow.csv")
    packed = path.suffix.lower() == PACKED
    source: Any = lib.BufferReader(read_bytes(path)) if packed else str(path)
    points = (".",) if delimiter == "," else (".", ",")
    kinds = (lib.float64(), lib.timestamp("us")) if set(times) & set(header) else (lib.float64(),)
    for point, kind in product(points, kinds):
        types = {
            name: lib.dictionary(lib.int32(), lib.string())
            if name in texts
            else kind if name in times else lib.float64()
            for name in header
        }  # fmt: skip
        try:
            found = reader.read_csv(
                source,
                read_options=reader.ReadOptions(
                    column_names=header, skip_rows_after_names=1, use_threads=False
                ),
                parse_options=reader.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=reader.ConvertOptions(
                    column_types=types, null_values=[], strings_can_be_null=False,
                    decimal_point=point,
                ),
            )  # fmt: skip
            made = Table.of(found, path.name, texts=texts, times=times)
        except (lib.ArrowException, OSError, DataError):
            if packed:
                source.seek(0)
            continue
        return Table(**{**vars(made), "details": _how(delimiter, point)})
    return None


def _slow(
    path: Path, header: list[str], delimiter: str, texts: Sequence[str], times: Sequence[str]
) -> Table:
    """Read row by row, and raise at the first cell that is wrong; what is odd but right is read."""
    cells: dict[str, list[Any]] = {name: [] for name in header}
    places: list[int] = []
    rows = read_rows(path, delimiter)
    next(rows, None)
    for number, row in rows:
        where = f"{path.name} row {number}"
        check_cells(row, header, where)
        places.append(number)
        for name, cell in zip(header, row, strict=True):
            said = f"{where}, column {name!r}"
            value = cell.strip()
            cells[name].append(
                value if name in texts else _number(value, said, delimiter, time=name in times)
            )
    return Table(
        name=path.name,
        texts={name: _coded(cells[name]) for name in header if name in texts},
        numbers={name: np.array(cells[name], dtype=np.float64) for name in header
                 if name not in texts},
        size=len(places),
        places=places,
        details=_how(delimiter, "as it stands"),
    )  # fmt: skip


def _how(delimiter: str, point: str) -> dict[str, Any]:
    return {} if delimiter == "," else {"separated_by": delimiter, "decimal_point": point}


def _number(text: str, where: str, delimiter: str, *, time: bool) -> float:
    if not text:
        raise _empty(where)
    try:
        # Python reads 1_000 as a number, and nothing else does.
        return float(text.replace("_", "?"))
    except ValueError as error:
        if time:
            try:
                return datetime.fromisoformat(text).timestamp() * 1e6
            except (ValueError, OverflowError, OSError):
                pass
        if delimiter != "," and text.count(",") == 1:
            return _number(text.replace(",", "."), where, ",", time=False)
        raise DataError(
            f"{where}: {text!r} is not a number",
            allowed="numbers" + (", or times as 2026-01-31 12:00:00" if time else ""),
            next_step="correct the cell, or drop the column if it is no channel",
        ) from error


def _empty(where: str) -> DataError:
    return DataError(
        f"{where}: the cell is empty",
        allowed="numbers",
        next_step="fill it in, or leave the row out: sequences may differ in length",
    )


def _names(values: Any) -> Texts:
    """Return an Arrow column as numbers of names, blanks around them dropped."""
    lib = import_module("pyarrow")
    coded = lib.types.is_dictionary(values.type)
    if not coded or values.type.index_type != lib.int32():
        values = values.cast(lib.string()).dictionary_encode()
    parts = values.unify_dictionaries().chunks
    if not parts:
        return np.zeros(0, dtype=np.int64), []
    codes = as_stored([part.indices for part in parts], np.int32)
    places, names = _coded([str(name).strip() for name in parts[0].dictionary.to_pylist()])
    return places[codes], names


def _coded(values: list[str]) -> Texts:
    places = {name: place for place, name in enumerate(dict.fromkeys(values))}
    return np.array([places[value] for value in values], dtype=np.int64), list(places)
