"""What ``config.json`` says a directory holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssmith.artefact.layout import CONFIG
from ssmith.core.directories import FORMAT, FORMAT_VERSION
from ssmith.core.errors import ArtefactError, ModelError
from ssmith.core.files import read_json
from ssmith.families.registry import MIXERS

KINDS = ("sequence", "headed", "network")
"""Models of our format: ours, a Mamba under a head, and networks that their own class opens."""
HF_MODEL_TYPES = tuple(mixer.model_type for _, mixer in MIXERS.values())
"""``model_type`` of the Hugging Face models that are opened."""


def read_any_config(directory: Path) -> dict[str, Any]:
    """Return the ``config.json`` of a model of any format; empty if it is no object.

    Raises `ArtefactError` if it is missing or no JSON.
    """
    path = directory / CONFIG
    if not path.is_file():
        raise ArtefactError(
            f"{directory} has no {CONFIG}",
            allowed="the directory of a model",
            next_step="give what --out of train, prune or tune made, or a Hugging Face directory",
        )
    content = read_json(path)
    return content if isinstance(content, dict) else {}


def check_config(directory: Path, content: dict[str, Any]) -> None:
    """Refuse a configuration of our format that is of another version, or lacks a part."""
    if content.get("version") != FORMAT_VERSION:
        raise ArtefactError(
            f"{directory}: format version {content.get('version')!r}",
            allowed=str(FORMAT_VERSION),
            next_step="load it with the version of ssmith that wrote it",
        )
    missing = sorted({"kind", "facts"} - set(content))
    if missing or content["kind"] not in KINDS:
        raise ArtefactError(
            f"{directory / CONFIG} "
            + (f"lacks {missing}" if missing else f"is of kind {content['kind']!r}"),
            allowed=f"kind: {', '.join(KINDS)}",
            next_step="restore it from its source",
        )


def is_language_model(content: dict[str, Any]) -> bool:
    """Return whether a configuration is that of a Hugging Face or mamba_ssm language model."""
    native = "model_type" not in content and {"d_model", "n_layer"} <= content.keys()
    return native or content.get("model_type") in HF_MODEL_TYPES


def unknown(directory: Path, content: dict[str, Any]) -> ModelError:
    """Return the error for a model of a kind that is not opened."""
    return ModelError(
        f"{directory}: unknown model type {content.get('model_type')!r}",
        allowed=f"models saved by ssmith ({FORMAT}), Hugging Face models of type "
        f"{', '.join(HF_MODEL_TYPES)}, and mamba_ssm checkpoints",
        next_step="choose one of these",
    )
