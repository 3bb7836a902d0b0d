"""What the readers of text files share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssmith.core.errors import DataError
from ssmith.core.names import meant


def read_text(path: Path) -> str:
    """Return the text of a file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path.name}: {error}", allowed="UTF-8 text") from error


def require_some(items: list[Any], path: Path) -> None:
    """Refuse a file without content."""
    if not items:
        raise DataError(f"{path.name} has no sequence", next_step="check how it was written")


def require_columns(columns: Sequence[str], there: Sequence[str], path: Path) -> None:
    """Refuse a file without the columns that were asked for."""
    for name in columns:
        if name not in there:
            raise DataError(
                f"{path.name} has no column {name!r}",
                allowed=", ".join(there),
                next_step=meant(name, there) or "name one of these",
            )
