"""Write a language model as a Hugging Face directory with a card and a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssmith.artefact.layout import CARD, CONFIG, MANIFEST, WEIGHTS, manifest_of
from ssmith.core.errors import InputError, NumericalError, UnsupportedError
from ssmith.core.files import new_directory, write_json, write_text


def save_language_model(
    model: nn.Module,
    path: str | Path,
    *,
    card: str,
    overwrite: bool = False,
    extra_files: Mapping[str, str] | None = None,
) -> Path:
    """Save a transformers language model so that transformers and ssmith open it.

    Args:
        model: a transformers model; run on the engine or not, its files are the same.
        path: the directory to make.
        card: Markdown for its README.
        overwrite: replace an earlier model; nothing else is ever replaced.
        extra_files: further text files by name.

    Returns:
        The directory.

    Raises:
        UnsupportedError: if it is no transformers model.
        NumericalError: if a weight is not finite.
        InputError: if a further file has a name that is taken or leaves the directory.
        OutputExistsError: if something is at ``path`` that may not be replaced.
        ArtefactError: if the disk refuses.
    """
    known: Any = model
    if not hasattr(model, "save_pretrained"):
        raise UnsupportedError(
            f"{type(model).__name__} cannot be saved as a Hugging Face model",
            allowed="a transformers model",
        )
    for name, value in model.state_dict().items():
        if not bool(torch.isfinite(value).all()):
            raise NumericalError(f"{name} has non-finite values")
    for name in extra_files or {}:
        if Path(name).name != name or name in (CARD, CONFIG, MANIFEST, WEIGHTS):
            raise InputError(f"further file {name!r}", allowed="a plain name that is not taken")
    target = Path(path)
    with new_directory(target, overwrite=overwrite, marker=CONFIG) as scratch:
        known.save_pretrained(scratch)
        write_text(scratch / CARD, card)
        for name, content in (extra_files or {}).items():
            write_text(scratch / name, content)
        write_json(scratch / MANIFEST, manifest_of(scratch))
    return target
