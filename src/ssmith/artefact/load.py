"""Read a model back, bit for bit, or say in one line why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ssmith.artefact.layout import (
    CONFIG,
    DTYPES,
    FORMAT,
    FORMAT_VERSION,
    PICKLES,
    WEIGHTS,
)
from ssmith.artefact.locate import locate
from ssmith.core.errors import ArtefactError, ModelError
from ssmith.core.files import read_json
from ssmith.families import SequenceConfig, SequenceModel, find_layers


def load(spec: str | Path) -> SequenceModel:
    """Load a saved model, in evaluation mode, on the CPU.

    Args:
        spec: a directory, ``embedded:NAME`` or a hub id (see `locate`).

    Returns:
        The model.

    Raises:
        InputError: if there is nothing at ``spec``.
        ArtefactError: if a file is missing, truncated, a pickle, or not this format.
        ModelError: if the model type is unknown or a weight is not finite.
    """
    directory = locate(spec)
    content = read_config(directory)
    tensors = read_weights(directory)
    config = SequenceConfig.from_dict(content["config"])
    _check_size(config, tensors, directory)
    model = SequenceModel(config).to(_dtype(content))
    layers = find_layers(model)
    for name in content["masked"]:
        if name not in layers:
            raise ArtefactError(f"{directory}: masked layer {name!r} does not exist")
        layers[name].mask_(torch.ones(layers[name].grid(), dtype=torch.bool))
    _fill(model, tensors, directory)
    return model.eval()


def read_config(directory: Path) -> dict[str, Any]:
    """Return a saved model's configuration.

    Args:
        directory: of the model.

    Returns:
        The parsed ``config.json``.

    Raises:
        ArtefactError: if it is missing or malformed.
        ModelError: if it describes another kind of model.
    """
    path = directory / CONFIG
    if not path.is_file():
        raise ArtefactError(
            f"{directory} has no {CONFIG}", allowed="a directory written by ssmith.save"
        )
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        kind = content.get("model_type") if isinstance(content, dict) else None
        raise ModelError(
            f"{directory}: unknown model type {kind!r}",
            allowed=f"models saved by ssmith ({FORMAT}) of the families s5 and s4d",
            next_step="save the model with ssmith.save",
        )
    if content.get("version") != FORMAT_VERSION:
        raise ArtefactError(
            f"{directory}: format version {content.get('version')!r}",
            allowed=str(FORMAT_VERSION),
            next_step="load it with the version of ssmith that wrote it",
        )
    missing = sorted({"config", "masked", "dtype", "digest"} - set(content))
    if missing:
        raise ArtefactError(f"{path} lacks {missing}", next_step="restore it from its source")
    masked = content["masked"]
    if not isinstance(masked, list) or not all(isinstance(name, str) for name in masked):
        raise ArtefactError(f"{path}: masked is {masked!r}", allowed="a list of layer names")
    return content


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
        pickles = [item.name for item in directory.iterdir() if item.suffix in PICKLES]
        found = f"; {pickles[0]} is a pickle and is not opened" if pickles else ""
        raise ArtefactError(f"{directory} has no {WEIGHTS}{found}", allowed="safetensors weights")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtefactError(
            f"{path} is truncated or not safetensors ({error})",
            next_step="restore it from its source",
        ) from error


def _check_size(config: SequenceConfig, tensors: dict[str, torch.Tensor], directory: Path) -> None:
    """Refuse a configuration of more than the weights hold, before memory is asked for it."""
    held = sum(tensor.numel() for tensor in tensors.values())
    named = [config.width, config.outputs, config.channels or 0, config.vocabulary or 0]
    for layer in config.states:
        named += layer if isinstance(layer, tuple) else [layer]
    if max(named) > held:
        raise ArtefactError(
            f"{directory}: {CONFIG} names a size of {max(named)}, the weights hold {held} numbers",
            next_step="the files do not belong together; restore them from their source",
        )


def _dtype(content: dict[str, Any]) -> torch.dtype:
    if not isinstance(content["dtype"], str) or content["dtype"] not in DTYPES:
        raise ModelError(f"weights of type {content['dtype']!r}", allowed=", ".join(DTYPES))
    return DTYPES[content["dtype"]]


def _fill(model: SequenceModel, tensors: dict[str, torch.Tensor], directory: Path) -> None:
    expected = model.state_dict()
    if set(expected) != set(tensors):
        missing = sorted(set(expected) - set(tensors))[:3]
        unknown = sorted(set(tensors) - set(expected))[:3]
        raise ArtefactError(
            f"{directory}: the weights lack {missing} and hold unknown {unknown}",
            next_step="the file belongs to another model; restore it from its source",
        )
    for name, value in tensors.items():
        want = expected[name]
        if value.shape != want.shape or value.dtype != want.dtype:
            raise ArtefactError(
                f"{directory}: {name} is {value.dtype} {tuple(value.shape)}",
                allowed=f"{want.dtype} {tuple(want.shape)}",
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = int((~torch.isfinite(value)).sum())
            raise ModelError(
                f"{directory}: {name} has {bad} non-finite values of {value.numel()}",
                allowed="finite weights",
                next_step="train again with a lower rate, or restore an earlier checkpoint",
            )
    model.load_state_dict(tensors)
