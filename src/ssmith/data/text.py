"""What the readers of text files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssmith.core.errors import DataError


def read_text(path: Path) -> str:
    """Return the text of a file.

    Args:
        path: the file, UTF-8 with or without a byte-order mark.

    Returns:
        Its whole content.

    Raises:
        DataError: if it cannot be read as such.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path.name}: {error}", allowed="UTF-8 text") from error


def require_some(items: list[Any], path: Path) -> None:
    """Refuse a file without content.

    Args:
        items: what was found in it.
        path: the file.

    Raises:
        DataError: if nothing was found.
    """
    if not items:
        raise DataError(f"{path.name} has no sequence", next_step="check how it was written")
