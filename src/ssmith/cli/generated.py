"""What flags say of a config: names, kinds, defaults and words, read from its source.

The source is read and not run, so that ``--help`` imports no torch.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_SCALARS = ("int", "float", "str", "bool", "Path")
_ENTRY = re.compile(r"    (\w+): (.*)")
_NONE = (
    re.compile(r"(.*?)[;,] ([^;]+) if (?:None|empty)(\. .*|)$"),
    re.compile(r"(.*)[;.] None (?:is|for|leaves|reports|to) ([^.]+)(\. .*|)$"),
)
"""Forms in which a docstring says what None is."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a config.

    Kinds are ``int``, ``float``, ``str``, ``bool``, ``Path``, one of these with a trailing ``…``
    for several, or the name of another class. The default is None where the source does not spell
    it out.
    """

    name: str
    kinds: tuple[str, ...]
    choices: tuple[str, ...]
    optional: bool
    default: Any
    about: str


@cache
def settings_of(source: str) -> dict[str, Setting]:
    """Return the fields of a config, those of configs of ours that it extends first."""
    module, _, name = source.partition(":")
    home, node = _find(module, name)
    if not isinstance(node, ast.ClassDef):
        raise LookupError(f"{source} is no class")
    about = _arguments(ast.get_docstring(node) or "")
    found: dict[str, Setting] = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in _names(home):
            found |= settings_of(f"{home}:{base.id}")
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            kinds = _kinds(home, item.annotation)
            found[item.target.id] = Setting(
                name=item.target.id,
                kinds=tuple(kind for kind in kinds if isinstance(kind, str) and kind != "None"),
                choices=tuple(
                    str(choice) for kind in kinds if isinstance(kind, tuple) for choice in kind
                ),
                optional="None" in kinds,
                default=None if item.value is None else _value(home, item.value),
                about=about.get(item.target.id, ""),
            )
    return found


def in_words(setting: Setting) -> str:
    """Return what a setting is, with its default, as a line of help."""
    text = re.sub(r'``"?([^`"]*)"?``', r"\1", setting.about).rstrip(".")
    text, default = _without_default(text)
    if not default and not isinstance(setting.default, bool):
        default = _shown(setting.default)
    return f"{text} (default: {default})" if default else text


def reader_of(setting: Setting) -> tuple[Callable[[str], Any], str]:
    """Return what reads the text of a setting, and what stands for it in the help."""
    kinds = setting.kinds
    if setting.choices:
        return str, "|".join(setting.choices)
    if "float" in kinds:
        return (amount, "AMOUNT") if "str" in kinds else (number, "X")
    if "int" in kinds:
        return whole, "N"
    if "Path" in kinds:
        return str, "PATH"
    for kind, reader, letter in (
        ("float…", numbers, "X,X"), ("int…", wholes, "N,N"), ("str…", words, "A,B"),
    ):  # fmt: skip
        if kind in kinds and "str" not in kinds:
            return reader, letter
    return str, "NAME"


def number(text: str) -> float:
    """Read a number; what it may be is checked where it is used."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def amount(text: str) -> float | str:
    """Read a number, or leave a number with its unit as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def whole(text: str) -> int:
    """Read a whole number; what it may be is checked where it is used."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers between commas."""
    return tuple(number(item) for item in words(text))


def wholes(text: str) -> tuple[int, ...]:
    """Read whole numbers between commas."""
    return tuple(whole(item) for item in words(text))


def words(text: str) -> tuple[str, ...]:
    """Read words between commas; an empty text is none."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _without_default(text: str) -> tuple[str, str]:
    """Take what None means out of a line: it is the default of a flag that is left out."""
    for form in _NONE:
        found = form.match(text)
        if found:
            return found[1] + found[3], found[2]
    return text, ""


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _arguments(docstring: str) -> dict[str, str]:
    """Return the entries of the section ``Args`` of a docstring, each in one line."""
    found: dict[str, str] = {}
    name = ""
    inside = False
    for line in docstring.splitlines():
        if line.strip() and not line.startswith(" "):
            inside = line.strip() == "Args:"
        elif inside and (entry := _ENTRY.fullmatch(line)):
            name = entry[1]
            found[name] = entry[2].strip()
        elif inside and line.strip():
            found[name] += f" {line.strip()}"
    return found


@cache
def _names(module: str) -> dict[str, Any]:
    """Return what a module defines, as source, and what it imports from us, as where that is."""
    path = _ROOT.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: dict[str, Any] = {}
    for item in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(item, ast.ClassDef):
            found[item.name] = item
        elif isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            found[item.targets[0].id] = item.value
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found[item.target.id] = item.value
        elif isinstance(item, ast.ImportFrom) and (item.module or "").startswith("ssmith."):
            found |= {name.asname or name.name: (item.module, name.name) for name in item.names}
    return found


def _find(module: str, name: str) -> tuple[str, ast.AST | None]:
    """Return where a name is defined, and its source; None for what is not ours."""
    item = _names(module).get(name)
    return _find(*item) if isinstance(item, tuple) else (module, item)


def _kinds(module: str, node: ast.AST | None) -> tuple[str | tuple[Any, ...], ...]:
    """Return the arms of an annotation: names of kinds, and the values of a ``Literal``."""
    if isinstance(node, ast.BinOp):
        return (*_kinds(module, node.left), *_kinds(module, node.right))
    if isinstance(node, ast.Constant):
        return ("None",)
    if isinstance(node, ast.Subscript):
        return _kinds_inside(module, node)
    if isinstance(node, ast.Name) and node.id not in _SCALARS:
        home, found = _find(module, node.id)
        known = found is not None and not isinstance(found, ast.ClassDef)
        return _kinds(home, found) if known else (node.id,)
    return (ast.unparse(node),) if node is not None else ()


def _kinds_inside(module: str, node: ast.Subscript) -> tuple[str | tuple[Any, ...], ...]:
    whole = ast.unparse(node.value)
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if whole == "Literal":
        return (tuple(ast.literal_eval(item) for item in items), "str")
    if whole == "tuple":
        return tuple(f"{kind}…" for kind in _kinds(module, items[0]) if isinstance(kind, str))
    return (whole,)


def _value(module: str, node: ast.AST) -> Any:
    """Return a default that the source spells out, through names; else None."""
    if isinstance(node, ast.Name):
        home, found = _find(module, node.id)
        return None if found is None else _value(home, found)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        home, _ = _find(module, node.value.id)
        return settings_of(f"{home}:{node.value.id}")[node.attr].default
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
