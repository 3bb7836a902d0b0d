"""The one entry point to models on disk, whatever format they are in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

from torch import nn

from ssmith.artefact import hugging_face, mamba_ssm, restore, tuned
from ssmith.artefact.configs import HF_MODEL_TYPES, check_config, read_any_config, unknown
from ssmith.artefact.layout import CONFIG
from ssmith.artefact.locate import locate
from ssmith.artefact.restore import Build
from ssmith.artefact.sidecar import SIDECAR, Sidecar
from ssmith.artefact.weights import check_size, files_of, shapes_in
from ssmith.core.directories import FORMAT
from ssmith.core.errors import ArtefactError, InputError, UnsupportedError
from ssmith.core.files import read_json
from ssmith.core.preparation import FILE as PREPARATION
from ssmith.core.preparation import Preparation
from ssmith.core.settings import typed
from ssmith.families import HeadConfig, SequenceConfig, SequenceModel, new_task_model
from ssmith.families.hf import MambaSize

_AGAIN = "restore it from its source"
_MOST_CUT = 256


def load(
    spec: str | Path, *, build: Build | None = None, base: str | Path | None = None
) -> nn.Module:
    """Load a model, in evaluation mode.

    Nothing is imported by a name that stands in a file, and nothing is unpickled.

    Args:
        spec: a directory, ``embedded:NAME`` or a hub id (see `locate`). It holds a model saved by
            ssmith, an adapter that names its base, a Hugging Face model of type mamba,
            falcon_mamba or mamba2, or a checkpoint of the mamba_ssm package.
        build: makes the network as it was before it was cut: a class, or a function without
            arguments. Needed for networks that are neither of ours nor of transformers; their
            layers are then given their sizes, their masks, and their weights bit for bit.
        base: where the base of an adapter lies now, if not where its files say.

    Returns:
        A `SequenceModel`, a transformers language model, or the network that ``build`` makes;
        under a new head, a `TaskModel`.

    Raises:
        InputError: if there is nothing at ``spec``, or ``build`` is missing or not needed.
        ArtefactError: if a file is missing, truncated, a pickle, of another format, or of another
            network than ``build`` makes.
        ModelError: if the model type is unknown or a weight is not finite.
        MissingExtraError: if transformers is needed and not installed.
    """
    if base is not None:
        with tuned.based_on(base):
            return load(spec, build=build)
    directory = locate(spec)
    if len(tuned.lineage(directory)) > 1:
        below = load(tuned.base_of(directory), build=build)
        return tuned.build(below, directory).eval()
    content = read_any_config(directory)
    if content.get("format") == FORMAT:
        check_config(directory, content)
    if content.get("kind") == "network":
        return restore.network(directory, build).eval()
    if build is not None:
        raise InputError(
            f"build is given, and {directory} holds a model that opens by itself",
            allowed="build for networks that are neither of ours nor of transformers",
            next_step="load it without build",
        )
    if content.get("format") == FORMAT:
        made = _headed if content["kind"] == "headed" else _sequence
        return made(directory, content).eval()
    if content.get("model_type") in HF_MODEL_TYPES:
        return _language_model(directory, content).eval()
    if "model_type" not in content and {"d_model", "n_layer"} <= content.keys():
        model: Any = mamba_ssm.build(directory, content).eval()
        # As transformers does: what lies beside the weights, a tokenizer above all, is found again.
        model.config.name_or_path = str(directory)
        return cast(nn.Module, model)
    raise unknown(directory, content)


def _sequence(directory: Path, content: dict[str, Any]) -> nn.Module:
    config = SequenceConfig.from_dict(content.get("config"))
    sizes = [config.width, config.outputs, config.channels or 0, config.vocabulary or 0]
    for layer in config.states:
        sizes += layer if isinstance(layer, tuple) else [layer]
    # A state's first values cost the cube of their number, so all numbers together are no bound:
    # halves of conjugate pairs, in two directions, stand in no axis longer than a quarter.
    axes = [
        axis for path in files_of(directory) for shape in shapes_in(path).values() for axis in shape
    ]
    check_size(max(sizes), 4 * max(axes, default=0), directory)
    model = SequenceModel(config, preparation=_preparation(directory, config))
    restore.restore_(model, Sidecar.read(directory), directory)
    return model


def _headed(directory: Path, content: dict[str, Any]) -> nn.Module:
    """Return a Mamba under a head, as it was made before it was cut, and then cut and filled."""
    where = str(directory / CONFIG)
    size = typed(MambaSize, content.get("size"), where=f"{where}: size", next_step=_AGAIN)
    head = typed(HeadConfig, content.get("head"), where=f"{where}: head", next_step=_AGAIN)
    shapes = [shape for path in files_of(directory) for shape in shapes_in(path).values()]
    # What was cut was there when it was made: a bound far above any share that is left.
    named = size.layers * size.width * size.expand * (size.states + size.conv)
    named += (head.outputs + (head.channels or 0) + size.vocabulary) * size.width
    check_size(named, _MOST_CUT * sum(map(math.prod, shapes)), directory)
    made = new_task_model(size, head, preparation=_preparation(directory, head))
    restore.restore_(made, Sidecar.read(directory), directory)
    return made


def _preparation(directory: Path, config: SequenceConfig | HeadConfig) -> Preparation | None:
    """Return how a model's rows are made, as its file says, or None if it has none."""
    path = directory / PREPARATION
    if not path.is_file():
        return None
    try:
        found = Preparation.from_dict(read_json(path), str(path))
    except InputError as error:
        raise ArtefactError(error.what, next_step="restore it from its source") from error
    outputs = len(found.classes) or len(found.targets)
    if len(found.channels) != config.channels or outputs != config.outputs:
        raise ArtefactError(
            f"{path} has {len(found.channels)} channels and {outputs} outputs",
            allowed=f"{config.channels} and {config.outputs}, as the model has",
            next_step="restore it from its source",
        )
    return found


def _language_model(directory: Path, content: dict[str, Any]) -> nn.Module:
    if not (directory / SIDECAR).is_file():
        return hugging_face.build(directory, content)
    sidecar = Sidecar.read(directory)
    if not sidecar.plain:
        return hugging_face.rebuild(directory, content, sidecar)
    model = hugging_face.build(directory, content)
    restore.add_(model, sidecar)
    restore.finish_(model, sidecar, directory)
    return model


def load_sequence_model(spec: str | Path) -> SequenceModel:
    """Load a model for work that only a `SequenceModel` allows (see `load`)."""
    model = load(spec)
    if not isinstance(model, SequenceModel):
        raise UnsupportedError(
            f"{spec} is a {type(model).__name__}, a language model with selective layers",
            allowed="models saved by ssmith, of the families s5 and s4d",
            next_step="prune and measure it on text",
        )
    return model
