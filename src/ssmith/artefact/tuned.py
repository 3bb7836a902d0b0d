"""Tuned models: an adapter's directory, opened together with the base and the head it names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import nn

from ssmith.artefact.adapter_config import CONFIG, AdapterConfig
from ssmith.artefact.adapters import base_digest, load_adapter_
from ssmith.artefact.layout import CONFIG as MODEL_CONFIG
from ssmith.artefact.locate import locate
from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.settings import typed
from ssmith.families import SequenceModel
from ssmith.families.heads import HeadConfig, renew_head_, with_head

NAME = "default"
BASE = "base"
"""Where an adapter that travels with its base has it."""
_BASE: ContextVar[Path | None] = ContextVar("base", default=None)


def is_adapter(directory: Path) -> bool:
    """Return whether a directory holds an adapter and no model of its own."""
    return (directory / CONFIG).is_file() and not (directory / MODEL_CONFIG).is_file()


@contextmanager
def based_on(base: Path | str | None) -> Iterator[None]:
    """Open adapters inside the block on this base, wherever the one that they name may lie.

    None for what they name. That it is the model they were trained on is checked by its digest;
    raises `InputError` if there is nothing.
    """
    token = _BASE.set(None if base is None else locate(base).resolve())
    try:
        yield
    finally:
        _BASE.reset(token)


def base_of(directory: Path) -> str:
    """Return the name or path of the model an adapter was trained on.

    The base of `based_on`, if there is one; what lies in it under `BASE`; else what its
    configuration says; a path beside it where there is one of that name. Raises `ArtefactError` if
    it names none.
    """
    given = _BASE.get()
    if given is not None and directory.resolve() != given:
        return str(given)
    if (directory / BASE).is_dir():
        return str(directory / BASE)
    name = AdapterConfig.read(directory).base
    if name is None:
        raise ArtefactError(
            f"{directory / CONFIG} names no base model",
            allowed="base_model_name_or_path",
            next_step="load the base yourself and give it to load_adapter_",
        )
    beside = directory / name
    return str(beside) if not Path(name).is_absolute() and beside.is_dir() else name


def lineage(directory: Path) -> list[Path]:
    """Return a directory and, of adapters, those of all their bases, down to a model.

    Raises `ArtefactError` if an adapter is its own base, itself or through others, and `InputError`
    if a base is not where its adapter says.
    """
    found = [directory]
    while is_adapter(found[-1]):
        base = _located(found[-1])
        if base.resolve() in [item.resolve() for item in found]:
            way = "" if base.resolve() == found[-1].resolve() else f" by way of {found[-1]}"
            raise ArtefactError(
                f"{base} is an adapter that names itself as its base{way}",
                allowed="base_model_name_or_path of a model, or of another adapter",
                next_step=f"correct base_model_name_or_path in {found[-1] / CONFIG}",
            )
        found.append(base)
    return found


def _located(adapter: Path) -> Path:
    """Return where the base of an adapter lies."""
    named = base_of(adapter)
    try:
        return locate(named)
    except InputError as error:
        raise InputError(
            f"{adapter} is an adapter of a base that is not there: {error.what}",
            allowed=error.allowed,
            next_step="say where its base lies now: --base MODEL, or ssmith.api.based_on(MODEL)",
        ) from error


def head_of(directory: Path) -> HeadConfig | None:
    """Return the configuration of the head that was trained with an adapter, or None.

    Raises `ArtefactError` if the adapter's configuration, or the head's in it, is not what was
    written.
    """
    head = _extra(directory).get("head")
    if head is None:
        return None
    where = f"{directory / CONFIG}: head"
    return typed(HeadConfig, head, where=where, next_step="restore it from its source")


def trained_on_from(directory: Path) -> tuple[str, str] | None:
    """Return directory and digest of the weights of what an adapter was trained on from, if any."""
    found = _extra(directory).get("trained_on_from")
    named = found if isinstance(found, dict) else {}
    path, digest = named.get("path"), named.get("weights_sha256")
    return (path, digest) if isinstance(path, str) and isinstance(digest, str) else None


def _extra(directory: Path) -> dict[str, Any]:
    own = AdapterConfig.read(directory).own
    return {} if own is None else own.extra


def build(base: nn.Module, directory: Path) -> nn.Module:
    """Put the head and the adapter of a directory on their base."""
    head = head_of(directory)
    digest = base_digest(base)
    model = base if head is None else _headed(base, head)
    load_adapter_(model, directory, name=NAME, digest=digest)
    return model


def _headed(base: nn.Module, head: HeadConfig) -> nn.Module:
    # The adapter's file fills the head; what it is drawn as does not matter.
    if isinstance(base, SequenceModel):
        renew_head_(base, head)
        return base
    return with_head(base, head)
