"""Frozen dataclasses of settings from JSON or YAML, and back: strict types, no unknown keys."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from ssmith.core.errors import ArtefactError, InputError, SsmithError
from ssmith.core.files import read_json
from ssmith.core.names import meant, unknown_name

Config = TypeVar("Config")

_WHOLE = re.compile(r"[-+]?(0|[1-9]\d*)$")
_REAL = re.compile(
    r"[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)
_LIKE_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_LONG = 300
_REST = "rest"
REST = {_REST: True}
"""Marks the field that holds all keys which no other field of its dataclass names."""
_SCALARS = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}


def from_mapping(
    kind: type[Config],
    mapping: object,
    *,
    where: str,
    decided: Mapping[str, Any] | None = None,
) -> Config:
    """Build a dataclass of settings from what JSON or YAML holds.

    Types are those of the fields and are kept to: an integer is no text and no truth value, a
    number may be an integer, lists become tuples, objects become dataclasses. A class with a
    classmethod ``from_plain`` reads its own values (see `to_mapping`). Domains are checked by the
    class itself.

    Args:
        kind: the dataclass.
        mapping: setting → value.
        where: what the mapping is, for errors: a file, or the name of a group of settings.
        decided: fields that are set elsewhere and that the mapping may not hold.

    Returns:
        The settings.

    Raises:
        InputError: if a key is unknown or missing, or a value of another type or not allowed.
    """
    return _built(kind, mapping, where, fixed=decided)


def _built(
    kind: type[Config],
    mapping: object,
    where: str,
    *,
    fixed: Mapping[str, Any] | None = None,
    kinds: Mapping[str, type] | None = None,
    of: str = ": ",
) -> Config:
    """Build a dataclass (see `from_mapping`); ``of`` parts ``where`` from the name of a field."""
    fixed = dict(fixed or {})
    items: list[dataclasses.Field[Any]] = [
        item
        for item in dataclasses.fields(kind)  # type: ignore[arg-type]
        if item.init and item.name not in fixed
    ]
    known = {_key(item): item.name for item in items if _REST not in item.metadata}
    if not isinstance(mapping, Mapping):
        raise InputError(
            f"{where} is {mapping!r}",
            allowed=f"a mapping of {', '.join(known)}",
            next_step=f"write {where} as a mapping of settings",
        )
    others = [item.name for item in items if _REST in item.metadata]
    if not others:
        check_keys(mapping, known, where=where)
    needed = [_key(item) for item in items if _is_needed(item) and _REST not in item.metadata]
    lacks = [key for key in needed if key not in mapping]
    if lacks:
        raise InputError(
            f"{where} lacks {', '.join(lacks)}",
            allowed=", ".join(known),
            next_step=f"add {' and '.join(lacks)}",
        )
    hints = {**get_type_hints(kind), **(kinds or {})}
    values = {
        known[key]: _converted(value, hints[known[key]], f"{where}{of}{key}")
        for key, value in mapping.items()
        if key in known
    }
    for name in others:
        left = {key: value for key, value in mapping.items() if key not in known}
        values[name] = _converted(left, hints[name], where)
    try:
        return kind(**values, **fixed)
    except SsmithError as error:
        what = f"{where}: {error.what}"
        raise type(error)(what, allowed=error.allowed, next_step=error.next_step) from error


def read_typed(kind: type[Config], path: Path, *, next_step: str) -> Config:
    """Read a file of JSON that we wrote as the dataclass it was.

    Raises `ArtefactError`, with this next step, if it cannot be read, or a key is unknown or
    missing, or a value of another type or out of its domain.
    """
    return typed(kind, read_json(path), where=str(path), next_step=next_step)


def typed(
    kind: type[Config],
    content: object,
    *,
    where: str,
    next_step: str,
    kinds: Mapping[str, type] | None = None,
) -> Config:
    """Return what a file of ours holds as the dataclass it was (see `read_typed`).

    ``kinds`` says of which type a field is here, where the dataclass allows several.
    """
    try:
        return _built(kind, content, where, kinds=kinds)
    except InputError as error:
        what = error.what if len(error.what) < _LONG else f"{error.what[:_LONG]}…"
        raise ArtefactError(what, allowed=error.allowed, next_step=next_step) from error


def to_mapping(config: object) -> dict[str, Any]:
    """Return settings as JSON holds them; `from_mapping` reads them back.

    A value with a method ``as_plain`` writes itself; one without a form in JSON is refused.
    """
    found: dict[str, Any] = {}
    for item in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, item.name)
        if item.init and not (isinstance(config, Sparse) and _is_default(item, value)):
            plain = _plain(value)
            found |= plain if _REST in item.metadata else {_key(item): plain}
    return found


class Sparse:
    """A dataclass of which JSON holds what is needed, and else only what is not the default."""


class AsDict:
    """A dataclass that JSON holds field by field."""

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return to_mapping(self)


def check_keys(mapping: Mapping[Any, Any], known: Collection[str], *, where: str) -> None:
    """Refuse keys that do not exist, and suggest the closest to the first of them."""
    wrong = sorted(str(key) for key in mapping if key not in known)
    if wrong:
        many = "s" if len(wrong) > 1 else ""
        said = f"{where} has unknown setting{many} {', '.join(map(repr, wrong))}"
        raise unknown_name(said, wrong[0], sorted(known) or ["none"])


def read_settings(path: Path) -> dict[str, Any]:
    """Read a mapping of settings from a ``.json``, ``.yaml`` or ``.yml`` file."""
    if path.suffix.lower() == ".json":
        content = read_json(path, by_hand=True)
    elif path.suffix.lower() in (".yaml", ".yml"):
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ArtefactError(f"cannot read {path}: {reason}", next_step="check it") from error
    else:
        raise InputError(f"settings in {str(path)!r}", allowed="a .json, .yaml or .yml file")
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(
            f"{path} is no mapping of settings: it holds a {type(content).__name__}",
            allowed="keys and values",
        )
    return content


def to_yaml(settings: Mapping[str, Any]) -> str:
    """Return settings as YAML, in their order; `read_settings` reads them back."""
    text: str = yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _key(item: dataclasses.Field[Any]) -> str:
    """Return what JSON calls a field: a word that Python keeps for itself has a line behind it."""
    return item.name.removesuffix("_")


def _is_default(item: dataclasses.Field[Any], value: object) -> bool:
    if item.default_factory is not dataclasses.MISSING:
        return bool(value == item.default_factory())
    return item.default is not dataclasses.MISSING and bool(value == item.default)


def _is_needed(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _converted(value: Any, kind: Any, where: str) -> Any:
    """Return a value as a type has it, or refuse it."""
    origin, inner = get_origin(kind), get_args(kind)
    whole = origin or kind
    if whole in (Union, types.UnionType):
        return _any_of(value, inner, where)
    if origin is Literal:
        return _one_of(value, inner, where)
    if whole in (tuple, list) and isinstance(value, list | tuple):
        return _listed(value, whole, inner, where)
    if isinstance(whole, type) and issubclass(whole, Mapping) and isinstance(value, Mapping):
        item = inner[1] if inner else Any
        return {str(key): _converted(one, item, f"{where}.{key}") for key, one in value.items()}
    if origin is not None:
        raise InputError(f"{where} is {value!r}", allowed=_words(kind))
    return _single(value, kind, where)


def _single(value: Any, kind: Any, where: str) -> Any:
    """Return what is neither a list nor a mapping as a type has it, or refuse it."""
    made: Any = kind
    strict = kind in _SCALARS
    if made is Any or type(value) is kind or (not strict and isinstance(value, kind)):
        return value
    if hasattr(kind, "from_plain"):
        return made.from_plain(value)
    if dataclasses.is_dataclass(kind):
        return _built(made, value, where, of=".")
    if (kind is float and type(value) is int) or (kind is Path and isinstance(value, str)):
        return made(value)
    raise InputError(f"{where} is {value!r}", allowed=_words(kind))


def _any_of(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    # A value of the very type of one arm is not converted to another: 1 stays an integer.
    if type(value) in kinds:
        return value
    left = [kind for kind in kinds if kind is not type(None)]
    if len(left) == 1:
        return _converted(value, left[0], where)
    wrong = None
    for kind in left:
        try:
            return _converted(value, kind, where)
        except InputError as error:
            if isinstance(value, Mapping) and dataclasses.is_dataclass(kind):
                wrong = wrong or error
    raise wrong or InputError(f"{where} is {value!r}", allowed=" or ".join(map(_words, kinds)))


def _one_of(value: Any, allowed: tuple[Any, ...], where: str) -> Any:
    if any(type(value) is type(item) and value == item for item in allowed):
        return value
    raise InputError(
        f"{where} is {value!r}",
        allowed=", ".join(map(repr, allowed)),
        next_step=meant(str(value), map(str, allowed)) or "choose one of these",
    )


def _listed(value: Any, whole: Any, inner: tuple[Any, ...], where: str) -> Any:
    if whole is tuple and inner and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            raise InputError(f"{where} has {len(value)} values", allowed=f"{len(inner)}")
        kinds = list(inner)
    else:
        kinds = [inner[0] if inner else Any] * len(value)
    pairs = enumerate(zip(value, kinds, strict=True))
    return whole(_converted(one, kind, f"{where}[{place}]") for place, (one, kind) in pairs)


def _words(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, inner))
    if origin is Literal:
        return ", ".join(map(repr, inner))
    if (origin or kind) in (tuple, list):
        return f"a list of {_words(inner[0])}" if inner else "a list"
    if kind is type(None):
        return "null"
    if dataclasses.is_dataclass(kind) or origin is not None:
        return "a mapping"
    return _SCALARS[kind] if kind in _SCALARS else str(getattr(kind, "__name__", kind))


def _plain(value: Any) -> Any:
    if hasattr(value, "as_plain"):
        return value.as_plain()
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(f"{value!r} has no form in JSON", allowed="texts, numbers, lists, mappings")


def _resolvers(kind: Any) -> dict[str, Any]:
    """Return what reads plain scalars, with the numbers of YAML 1.2.

    YAML 1.1 takes ``2:4`` for 124, in base 60, and ``2e-4`` for a text.
    """
    found = {
        first: [item for item in items if item[0] not in _LIKE_NUMBERS]
        for first, items in kind.yaml_implicit_resolvers.items()
    }
    for first in "-+.0123456789":
        found.setdefault(first, []).extend(zip(_LIKE_NUMBERS, (_WHOLE, _REAL), strict=True))
    return found


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads settings: numbers as in YAML 1.2, and no key twice."""

    yaml_implicit_resolvers = _resolvers(yaml.SafeLoader)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Build a mapping, and refuse a key that stands in it twice."""
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise yaml.YAMLError(f"{min(map(str, twice))!r} stands there twice")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes what `_Loader` reads, and quotes what a reader of YAML 1.1 would take for a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _REAL, list("-+.0123456789"))
