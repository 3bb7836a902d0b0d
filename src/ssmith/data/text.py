"""What the readers of text files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssmith.core.errors import DataError


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
