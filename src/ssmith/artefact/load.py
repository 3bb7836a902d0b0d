"""The one door to models on disk, whatever format they are in."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ssmith.artefact import hugging_face, mamba_ssm, own, selective, tuned
from ssmith.artefact.configs import HF_MODEL_TYPES, read_any_config, unknown
from ssmith.artefact.layout import FORMAT
from ssmith.artefact.locate import locate
from ssmith.artefact.sidecar import SIDECAR
from ssmith.core.errors import UnsupportedError
from ssmith.families import SequenceModel


def load(spec: str | Path) -> nn.Module:
    """Load a model, in evaluation mode, on the CPU.

    Args:
        spec: a directory, ``embedded:NAME`` or a hub id (see `locate`). It holds a model saved by
            ssmith, an adapter that names its base, a Hugging Face model of type mamba,
            falcon_mamba or mamba2, or a checkpoint of the mamba_ssm package.

    Returns:
        A `SequenceModel` or a transformers language model; under a new head, a `TaskModel`.

    Raises:
        InputError: if there is nothing at ``spec``.
        ArtefactError: if a file is missing, truncated, a pickle, or of another format.
        ModelError: if the model type is unknown or a weight is not finite.
        MissingExtraError: if transformers is needed and not installed.
    """
    directory = locate(spec)
    if tuned.is_adapter(directory):
        base = load(tuned.base_of(directory))
        return tuned.build(base, directory).eval()
    content = read_any_config(directory)
    if content.get("format") == FORMAT:
        return own.build(directory, own.check_config(directory, content)).eval()
    if content.get("model_type") in HF_MODEL_TYPES and (directory / SIDECAR).is_file():
        return selective.build(directory, content).eval()
    if content.get("model_type") in HF_MODEL_TYPES:
        return hugging_face.build(directory, content).eval()
    if "model_type" not in content and {"d_model", "n_layer"} <= content.keys():
        return mamba_ssm.build(directory, content).eval()
    raise unknown(directory, content)


def load_sequence_model(spec: str | Path) -> SequenceModel:
    """Load a model for work that only a `SequenceModel` allows (see `load`).

    Args:
        spec: as for `load`.

    Returns:
        The model.

    Raises:
        UnsupportedError: if it is a language model with selective layers.
    """
    model = load(spec)
    if not isinstance(model, SequenceModel):
        raise UnsupportedError(
            f"{spec} is a {type(model).__name__}, a language model with selective layers",
            allowed="models saved by ssmith, of the families s5 and s4d",
            next_step="prune it with --a-log, --columns or --projections, measure it on text",
        )
    return model
