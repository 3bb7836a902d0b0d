"""Recipes: a command's settings from a file, joined with its flags, and written beside results."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ssmith.cli.flags import Command, Flag
from ssmith.core.errors import InputError

if TYPE_CHECKING:
    from ssmith.core.receipt import Receipt

Config = TypeVar("Config")

RECIPE = "recipe.yaml"
"""The resolved settings, beside every result that is a directory."""


def resolve(arguments: argparse.Namespace) -> None:
    """Join flags with the recipe, fill the defaults of the command's own, and miss the rest.

    The arguments get what was not given, and as ``content`` the recipe's settings.
    """
    command: Command = arguments.spec
    path = getattr(arguments, "recipe", None)
    content = {} if path is None else _read(path, command)
    for flag in command.flags:
        if flag.setting:
            _settle(flag, content, path)
            continue
        held = content.pop(flag.key, None) if flag.in_recipe else None
        if not hasattr(arguments, flag.dest):
            given = flag.default if held is None else _own(flag, held, path)
            setattr(arguments, flag.dest, given)
        if flag.required and getattr(arguments, flag.dest) is None:
            raise InputError(
                f"{flag.name} is missing",
                next_step=flag.example
                or f"see `{command.parser.prog} --help`; an example: `{command.example}`",
            )
    arguments.content = content
    places = [getattr(arguments, name, "") for name in ("out", "plan_out")]
    if getattr(arguments, "overwrite", False) and not any(places) and None in places:
        raise InputError("--overwrite without --out", next_step="say what is to be replaced")
    if content and not command.free and not any(flag.setting for flag in command.flags):
        from ssmith.core.settings import check_keys

        known = [flag.key for flag in command.flags if flag.in_recipe]
        check_keys(content, known, where=str(path))


def config_of(
    kind: type[Config], arguments: argparse.Namespace, *, of: str = "this model"
) -> Config:
    """Build a config from flags and recipe; all that is not given keeps the config's defaults.

    A flag that is no setting of it is refused, as not for ``of``.
    """
    from ssmith.core.settings import from_mapping

    names = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    return from_mapping(kind, given_settings(arguments, names, of=of), where=_where(arguments))


def given_settings(
    arguments: argparse.Namespace, names: Collection[str], *, of: str
) -> dict[str, Any]:
    """Return the settings that flags and recipe give, as a mapping that a config is built from."""
    given: dict[str, Any] = deepcopy(arguments.content)
    for flag in arguments.spec.flags:
        if not flag.setting or not hasattr(arguments, flag.dest):
            continue
        if flag.dest.partition(".")[0] not in names:
            raise InputError(f"{flag.name} does not apply to {of}", next_step="leave it out")
        _put(given, flag.dest, getattr(arguments, flag.dest))
    return given


def recipe_of(arguments: argparse.Namespace, config: object) -> str:
    """Return the recipe that gives the same result again: the command's input and settings."""
    from ssmith.core.settings import to_mapping, to_yaml

    settings = to_mapping(config)
    own = {
        flag.key: getattr(arguments, flag.dest)
        for flag in arguments.spec.flags
        if not flag.setting and flag.in_recipe and not flag.many and flag.key not in settings
    }
    return to_yaml({"command": arguments.spec.name, **own, **settings})


def check_out(arguments: argparse.Namespace, *inputs: str | Path, page: bool = False) -> None:
    """Refuse, before any work, an ``--out`` that is taken, holds what is read, or lacks an extra.

    Of a ``page`` the packages that draw it are asked for.
    """
    from ssmith.core.directories import refuse_existing
    from ssmith.jobs.outputs import refuse_own_input
    from ssmith.report import check_extras

    if arguments.out is None:
        return
    refuse_own_input(arguments.out, *inputs)
    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    if page:
        check_extras()


def write_out(
    arguments: argparse.Namespace, config: object, receipt: Receipt, *, page: bool = False
) -> None:
    """Write a receipt, its recipe and if wanted its page to ``--out``, if there is one."""
    from ssmith.core.directories import new_directory
    from ssmith.core.files import write_text
    from ssmith.core.receipt import RECEIPT
    from ssmith.report import write_report

    if arguments.out is None:
        return
    with new_directory(arguments.out, overwrite=arguments.overwrite) as scratch:
        receipt.save(scratch / RECEIPT)
        write_text(scratch / RECIPE, recipe_of(arguments, config))
        if page:
            write_report(receipt, scratch)


def _read(path: Path, command: Command) -> dict[str, Any]:
    from ssmith.core.settings import read_settings

    content = {
        key.strip().removeprefix("--").replace("-", "_"): value
        for key, value in read_settings(path).items()
    }
    said = content.pop("command", command.name)
    if said != command.name:
        raise InputError(
            f"{path} is a recipe of `ssmith {said}`", allowed=f"one of `ssmith {command.name}`"
        )
    return content


def _own(flag: Flag, value: Any, path: Path | None) -> Any:
    """Return what a recipe holds for a flag of the command's own as the flag would give it."""
    if flag.many:
        return _many(value)
    if isinstance(value, str):
        try:
            return flag.kind(value)
        except argparse.ArgumentTypeError as error:
            raise InputError(f"{path}: {flag.key}: {error}") from None
    if flag.kind in (str, Path):
        raise InputError(f"{path}: {flag.key} is {value!r}", allowed="a text")
    return tuple(value) if isinstance(value, list) else value


def _many(value: Any) -> list[str]:
    """Return what a flag that is given several times may hold: a mapping, a list or one text."""
    if isinstance(value, Mapping):
        return [f"{name}={item}" for name, item in value.items()]
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _settle(flag: Flag, content: dict[str, Any], path: Path | None) -> None:
    """Put a setting that a recipe holds under the name of its flag where the config has it."""
    if flag.key == flag.dest or flag.key not in content:
        return
    if "." in flag.dest and _has(content, flag.dest):
        raise InputError(f"{path} holds {flag.key} and {flag.dest}", allowed="one of them")
    _put(content, flag.dest, content.pop(flag.key))


def _has(content: Mapping[str, Any], dest: str) -> bool:
    inner: Any = content
    for name in dest.split("."):
        if not isinstance(inner, Mapping) or name not in inner:
            return False
        inner = inner[name]
    return True


def _put(content: dict[str, Any], dest: str, value: Any) -> None:
    first, _, rest = dest.partition(".")
    if not rest:
        content[first] = value
        return
    inner = content.get(first)
    content[first] = dict(inner) if isinstance(inner, Mapping) else {}
    _put(content[first], rest, value)


def _where(arguments: argparse.Namespace) -> str:
    path = getattr(arguments, "recipe", None)
    return arguments.spec.name if path is None else f"{arguments.spec.name} by {path}"
