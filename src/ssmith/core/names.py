"""Names that users give: how they may be spelled, and what to say of one that is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ssmith.core.errors import InputError

_CLOSE = 0.4
_MOST = 4


def spelled(name: str) -> str:
    """Return a name in the spelling of tables: lower case, words joined by hyphens."""
    return name.strip().lower().replace("_", "-")


def unknown_name(said: str, name: str, known: Iterable[str], *, prefix: str = "") -> InputError:
    """Return the error of a name that is in no table: it lists all and suggests the closest."""
    names = list(known)
    return InputError(
        said,
        allowed=", ".join(prefix + item for item in names),
        next_step=meant(name, names, prefix=prefix) or "choose one of these",
    )


def meant(name: str, known: Iterable[str], *, prefix: str = "", cutoff: float = _CLOSE) -> str:
    """Return the question that suggests a name: what it is the beginning of, else the closest.

    ``prefix`` is what users write before each; ``cutoff`` says how alike two names must be, from 0
    to 1. Empty where no name is close.
    """
    names = list(known)
    found = [item for item in names if name and item.lower().startswith(name.lower())]
    found = found[:_MOST] or difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    if not found:
        return ""
    # Without a prefix the end of a name shows only in quotes.
    shown = [prefix + item if prefix else repr(item) for item in found]
    return f"did you mean {' or '.join(filter(None, [', '.join(shown[:-1]), shown[-1]]))}?"
