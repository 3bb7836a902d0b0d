"""Records: what JSON, Parquet and data set directories hold, as one list of named values."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssmith.core.errors import DataError
from ssmith.data.arrow import ARROW, columns_of, is_dataset, rows_of
from ssmith.data.files import opened, read_text, require_there, suffix_of

JSON = (".jsonl", ".json", ".ndjson")
SUFFIXES = (*JSON, *ARROW)
Row = dict[str, Any]
_ALIKE = 0.8
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Records:
    """Rows of named values, in the order of the file, with numbers as people count them.

    ``word`` is what a row is there: a line, a record, a row.
    """

    name: str
    rows: list[Row]
    numbers: Sequence[int]
    word: str

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError(
                f"{self.name} is empty: it has no {self.word}",
                next_step="check how it was written",
            )

    def where(self, place: int) -> str:
        """Return what a row is called in errors."""
        return f"{self.name} {self.word} {self.numbers[place]}"

    def optional(self, key: str) -> list[str] | None:
        """Return the texts under a key that stands in every row or in none."""
        found = [row.get(key) for row in self.rows]
        if all(value is None for value in found):
            return None
        for place, value in enumerate(found):
            if not isinstance(value, str) or not value:
                raise DataError(
                    f"{self.where(place)} has no {key}, or one that is no text: {value!r}",
                    allowed=f"a {key} in every {self.word}, or in none",
                )
        return [str(value) for value in found]

    def ignored(self, known: Collection[str], optional: Collection[str] = ()) -> dict[str, int]:
        """Return how often each other key occurs; one much like an optional key is refused."""
        counts = Counter(key for row in self.rows for key in row if key not in known)
        absent = [name for name in optional if not any(name in row for row in self.rows)]
        for key in counts:
            alike = difflib.get_close_matches(key, absent, n=1, cutoff=_ALIKE)
            if alike:
                raise DataError(
                    f"{self.name} has {key!r}",
                    allowed=f"{', '.join(optional)}, and keys that are not much like one of these",
                    next_step=f"rename it: did you mean {alike[0]!r}?",
                )
        return dict(sorted(counts.items()))


def holds_records(path: Path) -> bool:
    """Return whether a path's name, or what lies in a directory, says that it holds records."""
    return is_dataset(path) if path.is_dir() else suffix_of(path) in SUFFIXES


def read_records(path: Path) -> Records:
    """Read records: JSON lines or an array under any suffix, Parquet, Arrow, a data set directory.

    Raises `InputError` if there is nothing, `DataError` if it cannot be read, with the line, or
    holds no record.
    """
    require_there(path)
    if path.is_dir() or suffix_of(path) in ARROW:
        rows = rows_of(path)
        return Records(name=path.name, rows=rows, numbers=range(1, len(rows) + 1), word="row")
    text = read_text(path)
    return _array(path.name, text) if text.lstrip()[:1] == "[" else _lines(path.name, text)


def first_keys(path: Path) -> list[str]:
    """Return the keys of the first record, at little cost."""
    require_there(path)
    if path.is_dir() or suffix_of(path) in ARROW:
        return columns_of(path)
    with opened(path) as stream:
        lines = (line.decode("utf-8-sig", "replace") for line in stream)
        first = next((line for line in lines if line.strip()), "")
    if _is_whole(first):
        return list(_lines(path.name, first).rows[0])
    return list(read_records(path).rows[0])


def _is_whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _array(name: str, text: str) -> Records:
    items = _parsed(text, name, allowed="an array of objects, or one object per line")
    return _checked(name, items, range(1, len(items) + 1), "record")


def _lines(name: str, text: str) -> Records:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and not _is_whole(lines[0][1]) and _is_whole(text):
        names = list(json.loads(text))
        keys = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
        raise DataError(
            f"{name} is one JSON object, with {keys or 'nothing'} in it",
            allowed="an array of objects, or one object per line",
            next_step="write the array that is in it into a file of its own; as .txt the file is "
            "read as it stands",
        )
    items = [
        _parsed(line, f"{name} line {number}", allowed="one object per line")
        for number, line in lines
    ]
    return _checked(name, items, [number for number, _ in lines], "line")


def _parsed(text: str, where: str, *, allowed: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}", allowed=allowed) from error


def _checked(name: str, items: list[Any], numbers: Sequence[int], word: str) -> Records:
    for item, number in zip(items, numbers, strict=True):
        if not isinstance(item, dict):
            raise DataError(
                f"{name} {word} {number} is a {type(item).__name__}: {str(item)[:60]}",
                allowed="objects: names and values",
            )
    return Records(name=name, rows=items, numbers=numbers, word=word)
