"""The rows of a table, whatever they hold."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ssmith.core.errors import DataError
from ssmith.core.words import number_of
from ssmith.data.text import read_text


def read_rows(path: Path) -> list[list[str]]:
    """Return the rows of a ``.csv`` file as texts, the header among them."""
    try:
        return list(csv.reader(io.StringIO(read_text(path), newline=""), strict=True))
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
