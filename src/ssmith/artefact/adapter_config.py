"""`adapter_config.json`: its base, our own section, and what `peft` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError
from ssmith.core.files import read_json
from ssmith.core.settings import typed
from ssmith.tune.adapters import Method

CONFIG = "adapter_config.json"
FORMAT_VERSION = 1
BASE = "base_model_name_or_path"
_OWN = "ssmith"
_RESTORE = "restore it from its source"


@dataclass(frozen=True, kw_only=True)
class OwnSection:
    """What ssmith writes of an adapter.

    Args:
        version: of the format.
        methods: what is attached.
        base_model_digest: of the model it was trained on.
        weights_sha256: of the file of its tensors.
        parameters: how many numbers it holds.
        versions: of what wrote it.
        extra: further facts (data, training, the head).
    """

    version: int
    methods: tuple[Method, ...]
    base_model_digest: str
    weights_sha256: str
    parameters: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PeftLoRA:
    """What `peft` writes of a LoRA and what is read of it; the scale is the rank's if None."""

    peft_type: str
    r: int
    lora_alpha: float | None = None
    lora_dropout: float = 0.0
    use_rslora: bool = False
    use_dora: bool = False

    @classmethod
    def of(cls, content: Mapping[str, Any], where: str) -> PeftLoRA:
        """Read the part of a configuration that is known here (see `AdapterConfig.read`)."""
        names = {item.name for item in fields(cls)}
        known = {name: value for name, value in content.items() if name in names}
        return typed(cls, known, where=where, next_step=_RESTORE)


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """The configuration of an adapter.

    Args:
        base: name or path of its base; None if it names none.
        own: what ssmith wrote; None if it did not write the adapter.
        content: all that the file holds.
    """

    base: str | None
    own: OwnSection | None
    content: Mapping[str, Any]

    @classmethod
    def read(cls, directory: Path) -> AdapterConfig:
        """Read the configuration of an adapter's directory.

        Raises `ArtefactError` if it is missing, no configuration, of another version, or a key of
        it is unknown, missing or of another type.
        """
        path = directory / CONFIG
        content = read_json(path)
        if not isinstance(content, dict):
            raise ArtefactError(f"{path} is no configuration", next_step=_RESTORE)
        base = content.get(BASE)
        if base is not None and not isinstance(base, str):
            raise ArtefactError(f"{path}: {BASE} is {base!r}", allowed="a text", next_step=_RESTORE)
        return cls(base=base or None, own=_own(content, path), content=content)


def _own(content: Mapping[str, Any], path: Path) -> OwnSection | None:
    own = content.get(_OWN)
    if own is None:
        return None
    version = own.get("version") if isinstance(own, dict) else FORMAT_VERSION
    if version != FORMAT_VERSION:
        raise ArtefactError(
            f"{path} is of version {version!r}",
            allowed=str(FORMAT_VERSION),
            next_step="load it with the version of ssmith that wrote it",
        )
    return typed(OwnSection, own, where=f"{path}: {_OWN}", next_step=_RESTORE)
