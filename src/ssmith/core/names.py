"""Names that users give: how they may be spelled, and what to say of one that is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ssmith.core.errors import InputError

_CLOSE = 0.4


def spelled(name: str) -> str:
    """Return a name in the spelling of tables: lower case, words joined by hyphens."""
    return name.strip().lower().replace("_", "-")


def unknown_name(said: str, name: str, known: Iterable[str], *, prefix: str = "") -> InputError:
    """Return the error of a name that is in no table: it lists all and suggests the closest.

    Args:
        said: what there is not, with the name as it was given.
        name: the name.
        known: the names there are.
        prefix: what users write before each of them.

    Returns:
        The error, to be raised.
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=_CLOSE)
    # Without a prefix the end of a name shows only in quotes.
    meant = prefix + close[0] if close and prefix else repr(close[0]) if close else ""
    return InputError(
        said,
        allowed=", ".join(prefix + item for item in names),
        next_step=f"did you mean {meant}?" if close else "choose one of these",
    )
