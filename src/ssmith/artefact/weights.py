"""Weights on disk: safetensors only, whole, and finite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ssmith.artefact.layout import CONFIG, PICKLES, WEIGHTS
from ssmith.core.errors import ArtefactError, ModelError


def read_weights(directory: Path) -> dict[str, torch.Tensor]:
    """Return a saved model's tensors.

    Args:
        directory: of the model.

    Returns:
        Tensors by name.

    Raises:
        ArtefactError: if the file is missing, truncated or not safetensors.
    """
    path = directory / WEIGHTS
    if not path.is_file():
        raise missing_weights(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(
            f"{path} is truncated or not safetensors ({error})",
            next_step="restore it from its source",
        ) from error


def missing_weights(path: Path) -> ArtefactError:
    """Return the error for weights that are not there, with the cure if pickles are."""
    pickles = sorted(item.name for item in path.parent.iterdir() if item.suffix in PICKLES)
    found = f"; {pickles[0]} is a pickle and is not opened" if pickles else ""
    return ArtefactError(
        f"{path.parent} has no {path.name}{found}",
        allowed="safetensors weights",
        next_step="convert them to safetensors where you trust them" if pickles else "",
    )


def check_finite(tensors: Mapping[str, torch.Tensor], directory: Path) -> None:
    """Refuse weights that hold NaN or an infinity.

    Args:
        tensors: by name.
        directory: where they come from.

    Raises:
        ModelError: if one is not finite, with its name.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise ModelError(
                f"{directory}: {name} has {bad} non-finite values of {value.numel()}",
                allowed="finite weights",
                next_step="train again with a lower rate, or restore an earlier checkpoint",
            )


def check_size(named: object, held: int, directory: Path) -> None:
    """Refuse a configuration of more than the weights hold, before memory is asked for it.

    Args:
        named: the largest size the configuration names.
        held: numbers the weights hold.
        directory: where both come from.

    Raises:
        ArtefactError: if the size is no number the weights can have.
    """
    if not isinstance(named, int) or named > held:
        raise ArtefactError(
            f"{directory}: {CONFIG} names a size of {named!r}, the weights hold {held} numbers",
            next_step="the files do not belong together; restore them from their source",
        )
