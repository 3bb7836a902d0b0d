"""Reading recipes: JSON objects whose keys and kinds of values are checked before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssmith.core.errors import InputError
from ssmith.core.files import read_json


def read_recipe(path: Path, kinds: Mapping[str, type], needed: set[str]) -> dict[str, Any]:
    """Read a recipe's fields.

    Args:
        path: a JSON file.
        kinds: what each field must be.
        needed: fields that must be there.

    Returns:
        The fields that are there; ``notes`` as a tuple of texts.

    Raises:
        InputError: if a key is unknown or missing, or a value is of another kind.
        ArtefactError: if the file is unreadable or not JSON.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not needed <= set(content) <= set(kinds):
        raise InputError(
            f"{path} is not a recipe", allowed=f"keys {sorted(kinds)}, at least {sorted(needed)}"
        )
    for name, value in content.items():
        if not isinstance(value, kinds[name]):
            raise InputError(f"{path}: {name} is {value!r}", allowed=f"a {kinds[name].__name__}")
    return {**content, "notes": tuple(map(str, content.get("notes", ())))}


def refuse_unknown(name: str, given: object, known: set[str]) -> None:
    """Refuse settings that do not exist.

    Args:
        name: of the group of settings, for the error.
        given: the settings.
        known: names that exist.

    Raises:
        InputError: if ``given`` is no object or has another name.
    """
    if not isinstance(given, dict) or set(given) - known:
        wrong = sorted(set(given) - known) if isinstance(given, dict) else given
        raise InputError(f"{name} has unknown settings {wrong}", allowed=", ".join(sorted(known)))


def check_settings(name: str, given: object, kind: Any, *, without: set[str]) -> None:
    """Refuse settings a config does not know, and one that lacks what has no default.

    Args:
        name: of the group of settings, for the error.
        given: the settings.
        kind: dataclass they are for.
        without: its fields that are decided elsewhere.

    Raises:
        InputError: if a setting is unknown or missing.
    """
    items = [item for item in dataclasses.fields(kind) if item.name not in without]
    known = {item.name for item in items}
    refuse_unknown(name, given, known)
    needed = {item.name for item in items if item.default is dataclasses.MISSING}
    lacks = needed - set(given if isinstance(given, dict) else ())
    if lacks:
        raise InputError(
            f"{name} lacks {', '.join(sorted(lacks))}", allowed=", ".join(sorted(known))
        )
