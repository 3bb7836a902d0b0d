"""Our own format: read a saved model back, bit for bit, or say in one line why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ssmith.artefact.configs import read_any_config, unknown
from ssmith.artefact.layout import CONFIG, DTYPES, FORMAT, FORMAT_VERSION
from ssmith.artefact.weights import check_finite, check_size, read_weights
from ssmith.core.errors import ArtefactError, ModelError
from ssmith.families import SequenceConfig, SequenceModel, find_layers


def build(directory: Path, content: dict[str, Any]) -> SequenceModel:
    """Build a model saved by `save`.

    Args:
        directory: of the model.
        content: its configuration, from `check_config`.

    Returns:
        The model.

    Raises:
        ArtefactError: if a file is missing, truncated, a pickle, or belongs to another model.
        ModelError: if a weight is not finite.
    """
    tensors = read_weights(directory)
    config = SequenceConfig.from_dict(content["config"])
    sizes = [config.width, config.outputs, config.channels or 0, config.vocabulary or 0]
    for layer in config.states:
        sizes += layer if isinstance(layer, tuple) else [layer]
    check_size(max(sizes), sum(tensor.numel() for tensor in tensors.values()), directory)
    model = SequenceModel(config).to(_dtype(content))
    layers = find_layers(model)
    for name in content["masked"]:
        if name not in layers:
            raise ArtefactError(f"{directory}: masked layer {name!r} does not exist")
        layers[name].mask_(torch.ones(layers[name].grid(), dtype=torch.bool))
    _fill(model, tensors, directory)
    return model


def read_config(directory: Path) -> dict[str, Any]:
    """Return the configuration of a model saved by `save`.

    Args:
        directory: of the model.

    Returns:
        The checked content of ``config.json``.

    Raises:
        ArtefactError: if it is missing or malformed.
        ModelError: if it describes another kind of model.
    """
    content = read_any_config(directory)
    if content.get("format") != FORMAT:
        raise unknown(directory, content)
    return check_config(directory, content)


def check_config(directory: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration of our format after checking that nothing is missing.

    Args:
        directory: of the model.
        content: of its ``config.json``.

    Returns:
        The same content.

    Raises:
        ArtefactError: if it is of another version or malformed.
    """
    path = directory / CONFIG
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
    check_finite(tensors, directory)
    model.load_state_dict(tensors)
