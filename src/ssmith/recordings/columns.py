"""Tables as named columns: texts, numbers, times."""

from __future__ import annotations

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
from ssmith.data.arrow import as_stored

# Seconds since 1970, from 2001 to 2100.
_EPOCHS = 9.8e8, 4.2e9
_WRITTEN = (
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
)


_ZONES = ("none", "UTC")
_UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
PLAIN = "numbers"
FORMS = ("stamps", *_ZONES, *_WRITTEN, "dates", *_UNITS, PLAIN)
"""What a column of times may hold; the first form that fits all of it is what it holds."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What a table holds.

    Args:
        path: the file.
        table: of Arrow; cells of texts are texts, in a file of text all of them.
        units: of columns, where the table has a row of them.
        comma: whether numbers may be written with a decimal comma.
        first: number of the first row in the file, as people count.
        rows: of each row that number, where they do not follow each other.
        forms: of columns of times, known of the whole where this is a part.
        details: how it was read.
    """

    path: Path
    table: Any
    units: Mapping[str, str] = field(default_factory=dict)
    comma: bool = False
    first: int = 1
    rows: NDArray[np.int64] | None = None
    forms: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the columns, in the order of the file."""
        return [str(name) for name in self.table.column_names]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def where(self, row: int) -> str:
        """Return what a row is called in errors and findings."""
        return f"{self.path.name} row {self.numbers_of(np.array([row]))[0]}"

    def numbers_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of rows in the file, as people count."""
        return rows + self.first if self.rows is None else self.rows[rows]

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
        places, words = self.coded(name)
        return np.asarray(np.array(words, dtype=np.str_)[places], dtype=np.str_)

    def coded(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """Return the texts of a column each once, and which of them stands in each row."""
        values = self.table[name].combine_chunks()
        kinds = import_module("pyarrow").types
        if kinds.is_nested(values.type):
            texts = list(map(_plain, values.to_pylist()))
            places = np.arange(len(texts))
        else:
            if not kinds.is_dictionary(values.type):
                # Names come again and again: each is looked at once.
                values = values.dictionary_encode()
            texts = [*map(_plain, values.dictionary.to_pylist()), ""]
            places = as_stored([values.indices.cast("int64")], np.int64, gap=len(texts) - 1)
        words = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        if len(words) < len(texts):
            places = np.array([words[text] for text in texts], dtype=np.int64)[places]
        return places, list(words)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where there is a gap; else a `DataError` by row."""
        lib, compute = import_module("pyarrow"), import_module("pyarrow.compute")
        values = self.table[name].combine_chunks()
        if lib.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        is_text = lib.types.is_string(values.type) or lib.types.is_large_string(values.type)
        try:
            if is_text and self.comma:
                values = compute.replace_substring(values, ",", ".")
            try:
                found = values.cast(lib.float64())
            except lib.ArrowException:
                found = compute.utf8_trim_whitespace(values).cast(lib.float64())
        except lib.ArrowException:
            return self._refused(name)
        return as_stored([found], np.float64, gap=np.nan)

    def times(self, name: str) -> NDArray[np.float64]:
        """Return a column of times: seconds since 1970, or the numbers that stand there."""
        forms = (self.forms[name],) if name in self.forms else FORMS
        for form in forms:
            found = self.times_as(name, form)
            if found is not None:
                return found
        self._check_zones(name)
        # Raises at the first cell that is none of these.
        return self.numbers(name)

    def times_as(self, name: str, form: str) -> NDArray[np.float64] | None:
        """Return a column of times that are written in one form, or None if one of them is not."""
        lib, compute = import_module("pyarrow"), import_module("pyarrow.compute")
        values = self.table[name].combine_chunks()
        is_text = lib.types.is_string(values.type) or lib.types.is_large_string(values.type)
        if lib.types.is_temporal(values.type) or form == "stamps":
            return _seconds(values) if lib.types.is_temporal(values.type) else None
        if form in _ZONES or form in _WRITTEN:
            return _seconds_of(compute.utf8_trim_whitespace(values), form) if is_text else None
        try:
            numbers = self.numbers(name)
        except DataError:
            return None
        if form == "dates":
            return _dates(numbers)
        return numbers if form == PLAIN else _in_unit(numbers, _UNITS[form])

    def _check_zones(self, name: str) -> None:
        """Refuse times of which some have a zone and some have none: no clock is common to them."""
        lib, compute = import_module("pyarrow"), import_module("pyarrow.compute")
        values = self.table[name].combine_chunks()
        if not (lib.types.is_string(values.type) or lib.types.is_large_string(values.type)):
            return
        values = compute.utf8_trim_whitespace(values)
        zoned = compute.match_substring_regex(values, r":\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)$")
        bare = compute.invert(zoned)
        parts = zip((values.filter(zoned), values.filter(bare)), reversed(_ZONES), strict=True)
        if all(len(part) and _seconds_of(part, form) is not None for part, form in parts):
            row = compute.index(bare, True).as_py()
            raise DataError(
                f"{self.where(row)}, column {name!r}: {values[row].as_py()!r} has no time zone, "
                "and other rows have one",
                allowed="a zone in all rows, or in none",
                next_step="write the zone into these rows as well",
            )

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
        if 2 * sum(map(reads, cells)) > len(cells):
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


def time_of(text: str) -> float:
    """Return one time as `Columns.times` does: seconds since 1970, or the number; else NaN."""
    lib = import_module("pyarrow")
    table = lib.table({"time": lib.array([text], lib.string())})
    try:
        return float(Columns(path=Path("line"), table=table, comma=True).times("time")[0])
    except DataError:
        return float("nan")


@cache
def reads(text: str) -> bool:
    """Return whether a cell is a number."""
    try:
        float(text.strip().replace(",", ".").replace("_", "?"))
    except ValueError:
        return False
    return True


def _plain(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _seconds_of(values: Any, form: str) -> NDArray[np.float64] | None:
    """Return texts as times, or None if one is no such time; those with a zone are of UTC."""
    lib, compute = import_module("pyarrow"), import_module("pyarrow.compute")
    try:
        if form in _ZONES:
            return _seconds(values.cast(lib.timestamp("us", None if form == "none" else form)))
        return _seconds(compute.strptime(values, format=form, unit="us"))
    except lib.ArrowException:
        return None


def _seconds(stamps: Any) -> NDArray[np.float64]:
    lib = import_module("pyarrow")
    micro = stamps.cast(lib.timestamp("us"), safe=False).cast(lib.int64()).cast(lib.float64())
    return as_stored([micro], np.float64, gap=np.nan) / 1e6


def _dates(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return numbers such as 20260131 as seconds since 1970, or None if one is no such date."""
    if not np.isfinite(values).all() or not len(values):
        return None
    if values.min() < 1700_01_01 or values.max() > 2200_12_31 or (values % 1).any():
        return None
    year, month, day = values // 10_000, values // 100 % 100, values % 100
    if not ((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all():
        return None
    months = (12 * (year - 1970) + month - 1).astype(np.int64).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1).astype(np.int64)
    return None if (days.astype("datetime64[M]") != months).any() else days.astype(float) * 86_400


def _in_unit(values: NDArray[np.float64], unit: float) -> NDArray[np.float64] | None:
    """Return numbers in seconds, if all are times of our days in a unit since 1970."""
    seen = values[np.isfinite(values)]
    fits = len(seen) and unit * _EPOCHS[0] <= seen.min() and seen.max() <= unit * _EPOCHS[1]
    return values / unit if fits else None
