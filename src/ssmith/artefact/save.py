"""Write a model: weights, configuration, card, manifest; whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from ssmith.artefact.card import card
from ssmith.artefact.layout import (
    CARD,
    CONFIG,
    DTYPES,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    WEIGHTS,
    manifest_of,
)
from ssmith.artefact.selective import save_selective
from ssmith.core.errors import InputError, NumericalError, UnsupportedError
from ssmith.core.files import new_directory, write_bytes, write_json, write_text
from ssmith.core.receipt import versions
from ssmith.families import SequenceModel, directory_of, find_layers, hf_facts, model_digest
from ssmith.tune.adapters import adapters_of


def save(
    model: nn.Module,
    path: str | Path,
    *,
    overwrite: bool = False,
    parent: str | None = None,
    facts: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, str | bytes] | None = None,
) -> Path:
    """Save a model as a directory of safetensors, JSON and a card.

    Args:
        model: a `SequenceModel`, masked or shrunk as it is; or a transformers model, which is
            saved in its own format with what its cuts mean beside it (see `save_selective`).
        path: the directory to make.
        overwrite: replace an earlier model; nothing else is ever replaced.
        parent: digest of the model this one was made from; None for one trained from scratch.
        facts: JSON-ready facts for the card (title, data, metric, how to retrain).
        extra_files: further files by name (a receipt, a plan, a recipe).

    Returns:
        The directory.

    Raises:
        UnsupportedError: if the model is of a kind or type this format does not hold, or carries
            adapters.
        NumericalError: if a weight is not finite, so that the model could not be loaded again.
        InputError: if a further file has a name that is taken or leaves the directory.
        OutputExistsError: if something is at ``path`` that may not be replaced.
        ArtefactError: if the disk refuses.
    """
    _check_no_adapter(model)
    if hf_facts(model):
        return save_selective(
            model, path, overwrite=overwrite, parent=parent, facts=facts, extra_files=extra_files,
            source=directory_of(model),
        )  # fmt: skip
    if not isinstance(model, SequenceModel):
        raise UnsupportedError(
            f"{type(model).__name__} cannot be saved in this format",
            allowed="SequenceModel, or a transformers model",
            next_step="save its own state_dict with safetensors",
        )
    target = Path(path)
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    _check(tensors, extra_files or {})
    config = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "kind": "sequence",
        "dtype": str(model.head.weight.dtype).removeprefix("torch."),
        "config": model.current_config().as_dict(),
        "masked": [
            name for name, layer in find_layers(model).items() if layer.state_mask is not None
        ],
        "semantics": "removed states are absent or masked; a masked state has no recurrence",
        "digest": model_digest(model),
        "parent": parent,
        "versions": versions(),
        "facts": dict(facts or {}),
    }
    with new_directory(target, overwrite=overwrite, marker=MANIFEST) as scratch:
        write_bytes(scratch / WEIGHTS, to_safetensors(tensors))
        write_json(scratch / CONFIG, config)
        write_text(scratch / CARD, card(model, config))
        for name, content in (extra_files or {}).items():
            write_bytes(scratch / name, content.encode() if isinstance(content, str) else content)
        write_json(scratch / MANIFEST, manifest_of(scratch))
    return target


def _check_no_adapter(model: nn.Module) -> None:
    names = list(adapters_of(model))
    if names:
        raise UnsupportedError(
            f"the model carries adapter {names[0]!r}, which a model's file does not hold",
            next_step="save_adapter saves it by itself; or merge or detach it first",
        )


def _check(tensors: Mapping[str, Tensor], extra_files: Mapping[str, str | bytes]) -> None:
    """Refuse what could not be read back."""
    real = {name: value for name, value in tensors.items() if value.is_floating_point()}
    types = sorted({str(value.dtype).removeprefix("torch.") for value in real.values()})
    if len(types) != 1 or types[0] not in DTYPES:
        raise UnsupportedError(
            f"a model with weights of type {', '.join(types)} cannot be saved",
            allowed=f"one of {', '.join(DTYPES)} for all",
            next_step="convert it, e.g. model.float()",
        )
    bad = [name for name, value in real.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise NumericalError(
            f"{bad[0]} has non-finite values", next_step="train again with a lower rate"
        )
    taken = {CARD, CONFIG, MANIFEST, WEIGHTS}
    for name in extra_files:
        if not name or name in taken or Path(name).name != name:
            raise InputError(
                f"further file {name!r}", allowed=f"a plain name, none of {sorted(taken)}"
            )
