"""Tables as named columns: text of any separator and encoding, Parquet, Arrow, lines of JSON."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.names import meant
from ssmith.data.arrow import ARROW, is_dataset, read_arrow
from ssmith.data.csv_file import CSV
from ssmith.data.files import read_bytes, require_there, suffix_of
from ssmith.data.records import JSON, read_records

TABLES = (*CSV, ".txt", *ARROW, *JSON)
_SEPARATORS = (",", ";", "\t", "|")
_GAPS = ("", " ", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "-")
_SAMPLE = 1 << 16
GUESSED = "cp1252"
# Seconds, milliseconds, microseconds and nanoseconds since 1970, for times from 2001 to 2100.
_EPOCHS = tuple((unit * 9.8e8, unit * 4.2e9, unit) for unit in (1.0, 1e3, 1e6, 1e9))
_FORMS = ("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a table holds.

    Args:
        path: the file.
        table: of Arrow; cells of texts are texts, in a file of text all of them.
        units: of columns, where the table has a row of them.
        comma: whether numbers may be written with a decimal comma.
        first: number of the first row in the file, as people count.
        details: how it was read.
    """

    path: Path
    table: Any
    units: Mapping[str, str] = field(default_factory=dict)
    comma: bool = False
    first: int = 1
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the columns, in the order of the file."""
        return [str(name) for name in self.table.column_names]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def where(self, row: int) -> str:
        """Return what a row is called in errors and findings."""
        return f"{self.path.name} row {row + self.first}"

    def require(self, names: Sequence[str], role: str) -> None:
        """Refuse a table without the columns that a role names."""
        for name in names:
            if name not in self.names:
                raise DataError(
                    f"{self.path.name} has no column {name!r}, which was given as {role}",
                    allowed=", ".join(self.names),
                    next_step=meant(name, self.names) or "name one of these",
                )

    def texts(self, name: str) -> NDArray[Any]:
        """Return a column as texts without blanks around them; a gap is an empty one."""
        values = self.table[name].combine_chunks()
        kinds = import_module("pyarrow").types
        if kinds.is_dictionary(values.type):
            values = values.dictionary_decode()
        cells = ["" if cell is None else _plain(cell) for cell in values.to_pylist()]
        return np.array(cells, dtype=np.str_)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where there is a gap; else a `DataError` by row."""
        lib, compute = import_module("pyarrow"), import_module("pyarrow.compute")
        values = self.table[name].combine_chunks()
        if lib.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        is_text = lib.types.is_string(values.type) or lib.types.is_large_string(values.type)
        try:
            if is_text:
                values = compute.utf8_trim_whitespace(values)
                if self.comma:
                    values = compute.replace_substring(values, ",", ".")
            found = values.cast(lib.float64())
        except lib.ArrowException:
            return self._refused(name)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.float64)

    def times(self, name: str) -> NDArray[np.float64]:
        """Return a column of times: seconds since 1970, or the numbers that stand there."""
        lib, compute = import_module("pyarrow"), import_module("pyarrow.compute")
        values = self.table[name].combine_chunks()
        if lib.types.is_string(values.type) or lib.types.is_large_string(values.type):
            stamps = _stamps(compute.utf8_trim_whitespace(values))
        else:
            stamps = values if lib.types.is_temporal(values.type) else None
        if stamps is None:
            return _seconds(self.numbers(name))
        micro = stamps.cast(lib.timestamp("us"), safe=False).cast(lib.int64())
        found = micro.cast(lib.float64()).to_numpy(zero_copy_only=False)
        return np.asarray(found, dtype=np.float64) / 1e6

    def is_numeric(self, name: str) -> bool:
        """Return whether a column holds numbers alone, gaps aside."""
        try:
            return bool(np.isfinite(self.numbers(name)).any())
        except DataError:
            return False

    def holds(self, name: str) -> str:
        """Return what a column that is not numeric holds: numbers for the most part, times, words.

        A column without a value counts as one of words.
        """
        cells = [str(cell) for cell in self.texts(name) if cell]
        if 2 * sum(map(_reads, cells)) > len(cells):
            return "numbers"
        try:
            known = np.isfinite(self.times(name)).any()
        except DataError:
            return "words"
        return "times" if known else "words"

    def _refused(self, name: str) -> NDArray[np.float64]:
        for row, text in enumerate(self.texts(name)):
            try:
                # Python reads 1_000 as a number, and nothing else does.
                cell = str(text).replace("_", "?") or "nan"
                float(cell.replace(",", ".") if self.comma else cell)
            except ValueError as error:
                raise DataError(
                    f"{self.where(row)}, column {name!r}: {str(text)!r} is not a number",
                    allowed="numbers",
                    next_step=f"correct the cell, or leave the column out: --ignore {name}",
                ) from error
        raise DataError(
            f"{self.path.name}, column {name!r} is of type {self.table[name].type}",
            allowed="numbers", next_step=f"leave the column out: --ignore {name}",
        )  # fmt: skip


def read_columns(path: Path) -> Columns:
    """Read a table.

    Separators are commas, semicolons, tabs and bars, the one that stands most often in the first
    line; but with commas, numbers may have decimal commas. Text is UTF-8, UTF-16 with its mark, or
    else CP1252, which is said in the details. A second row without numbers, over columns of
    numbers, holds units.

    Args:
        path: the file, or the directory of a data set.

    Returns:
        Its columns.

    Raises:
        InputError: if there is no such file.
        DataError: if it is no table.
    """
    require_there(path)
    if path.is_dir() or suffix_of(path) in ARROW:
        return Columns(path=path, table=read_arrow(path))
    if suffix_of(path) in JSON:
        rows = read_records(path).rows
        return Columns(path=path, table=_of_records(path, rows))
    return _read_text(path)


def time_of(text: str) -> float:
    """Return one time as `Columns.times` does: seconds since 1970, or the number; else NaN."""
    lib = import_module("pyarrow")
    table = lib.table({"time": lib.array([text], lib.string())})
    try:
        return float(Columns(path=Path("line"), table=table, comma=True).times("time")[0])
    except DataError:
        return float("nan")


def is_table(path: Path) -> bool:
    """Return whether a path's name says that it holds a table."""
    return is_dataset(path) if path.is_dir() else suffix_of(path) in TABLES


def _of_records(path: Path, rows: list[dict[str, Any]]) -> Any:
    lib = import_module("pyarrow")
    try:
        return lib.Table.from_pylist(rows)
    except (lib.ArrowException, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{path.name}: values of one name differ in kind ({reason})", allowed="one kind a name"
        ) from error


def _read_text(path: Path) -> Columns:
    content, encoding = _decoded(path)
    head = content[:_SAMPLE].decode("utf-8", "ignore")
    line = next((line for line in head.splitlines() if line.strip()), "")
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
    table = _parsed(path, content, header, separator)
    units = _units(table)
    if units:
        table = table.slice(1)
    if not table.num_rows:
        raise DataError(f"{path.name} has no row below its header", next_step="check the file")
    details = {} if separator == "," else {"separated_by": separator}
    details |= {} if encoding == "utf-8" else {"encoding": encoding}
    return Columns(
        path=path, table=table, units=units, comma=separator != ",",
        first=3 if units else 2, details=details,
    )  # fmt: skip


def _decoded(path: Path) -> tuple[bytes, str]:
    """Return the text of a file as UTF-8 without a mark, and what it was written in."""
    content = read_bytes(path)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace").encode(), "utf-16"
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode(GUESSED, "replace").encode(), GUESSED
    return content, "utf-8"


def _parsed(path: Path, content: bytes, header: list[str], separator: str) -> Any:
    lib, reader = import_module("pyarrow"), import_module("pyarrow.csv")
    try:
        return reader.read_csv(
            lib.BufferReader(content),
            read_options=reader.ReadOptions(
                column_names=header, skip_rows_after_names=1, use_threads=False
            ),
            parse_options=reader.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=reader.ConvertOptions(
                column_types=dict.fromkeys(header, lib.string()),
                null_values=list(_GAPS), strings_can_be_null=True,
            ),
        )  # fmt: skip
    except lib.ArrowException as error:
        _explain(path, content, len(header), separator)
        reason = str(error).splitlines()[0]
        raise DataError(f"{path.name} is not a table: {reason}", next_step="correct it") from error


def _explain(path: Path, content: bytes, cells: int, separator: str) -> None:
    """Raise at the first row that does not fit the header."""
    rows = csv.reader(io.StringIO(content.decode(), newline=""), delimiter=separator)
    for number, row in enumerate(rows, start=1):
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
               if all(row[name] is None or _reads(row[name]) for row in rest)
               and any(row[name] is not None for row in rest)]  # fmt: skip
    named = [name for name in numeric if first[name] is not None and not _reads(first[name])]
    if not named or any(_reads(first[name] or "x") for name in numeric):
        return {}
    return {name: str(first[name]).strip().strip("[]()") for name in named}


@cache
def _reads(text: str) -> bool:
    try:
        float(text.strip().replace(",", ".").replace("_", "?"))
    except ValueError:
        return False
    return True


def _plain(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _stamps(values: Any) -> Any | None:
    """Return texts as times, or None if they are no times; those with a zone are of UTC."""
    lib, compute = import_module("pyarrow"), import_module("pyarrow.compute")
    for kind in (lib.timestamp("us"), lib.timestamp("us", "UTC")):
        try:
            return values.cast(kind)
        except lib.ArrowException:
            continue
    for form in _FORMS:
        try:
            return compute.strptime(values, format=form, unit="us")
        except lib.ArrowException:
            continue
    return None


def _dates(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return numbers such as 20260131 as seconds since 1970, or None if one is no such date."""
    if values.min() < 1700_01_01 or values.max() > 2200_12_31 or (values % 1).any():
        return None
    year, month, day = values // 10_000, values // 100 % 100, values % 100
    if not ((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all():
        return None
    months = (12 * (year - 1970) + month - 1).astype(np.int64).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1).astype(np.int64)
    return None if (days.astype("datetime64[M]") != months).any() else days.astype(float) * 86_400


def _seconds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers as they are; in seconds where they are dates, or smaller units since 1970."""
    seen = values[np.isfinite(values)]
    if not len(seen):
        return values
    if len(seen) == len(values) and (dates := _dates(values)) is not None:
        return dates
    for low, high, unit in _EPOCHS:
        if low <= seen.min() and seen.max() <= high:
            return values / unit
    return values
