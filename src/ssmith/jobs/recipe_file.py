"""Reading recipes: JSON objects whose keys and kinds of values are checked before any work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssmith.core.errors import InputError
from ssmith.core.files import read_json
from ssmith.core.names import unknown_name

_KIND_NAMES: dict[type, str] = {str: "a text", dict: "an object of settings", list: "a list"}


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
    content = read_json(path, by_hand=True)
    if not isinstance(content, dict):
        form = ", ".join(f'"{name}": …' for name in sorted(needed))
        raise InputError(
            f"{path} is not a recipe: it holds a {type(content).__name__}",
            allowed=f"an object with the keys {', '.join(sorted(kinds))}",
            next_step=f"write {{{form}}}",
        )
    refuse_unknown(str(path), content, set(kinds), what="key")
    lacks = sorted(needed - set(content))
    if lacks:
        raise InputError(
            f"{path} lacks {', '.join(lacks)}",
            allowed=f"keys {', '.join(sorted(kinds))}, at least {', '.join(sorted(needed))}",
            next_step=f"add {' and '.join(lacks)} to the recipe",
        )
    for name, value in content.items():
        if not isinstance(value, kinds[name]):
            raise InputError(
                f"{path}: {name} is {value!r}",
                allowed=_KIND_NAMES[kinds[name]],
                next_step=f"correct {name} in the recipe",
            )
    return {**content, "notes": tuple(map(str, content.get("notes", ())))}


def refuse_unknown(name: str, given: object, known: set[str], *, what: str = "setting") -> None:
    """Refuse settings that do not exist, and suggest the closest to the first of them.

    Args:
        name: of the group of settings, for the error.
        given: the settings.
        known: names that exist.
        what: what one of them is called.

    Raises:
        InputError: if ``given`` is no object or has another name.
    """
    if not isinstance(given, dict):
        raise InputError(
            f"{name} is {given!r}",
            allowed=f"an object of {', '.join(sorted(known))}",
            next_step=f"write {name} as an object of settings",
        )
    wrong = sorted(set(given) - known)
    if wrong:
        many = "s" if len(wrong) > 1 else ""
        said = f"{name} has unknown {what}{many} {', '.join(map(repr, wrong))}"
        raise unknown_name(said, wrong[0], sorted(known))


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
            f"{name} lacks {', '.join(sorted(lacks))}",
            allowed=", ".join(sorted(known)),
            next_step=f"add {' and '.join(sorted(lacks))} to {name}",
        )
