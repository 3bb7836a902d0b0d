"""Checkpoints of the `mamba_ssm` package: its own ``config.json`` beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ssmith.artefact.weights import check_finite, read_weights
from ssmith.families.hf import from_mamba_ssm


def build(directory: Path, content: dict[str, Any]) -> nn.Module:
    """Build the Hugging Face model a `mamba_ssm` checkpoint describes.

    Args:
        directory: of the checkpoint.
        content: its configuration.

    Returns:
        A transformers language model.

    Raises:
        ArtefactError: if the weights are missing, truncated or a pickle.
        ModelError: if a setting or a weight has no counterpart, or is not finite.
        MissingExtraError: if transformers is not installed.
    """
    tensors = read_weights(directory)
    check_finite(tensors, directory)
    return from_mamba_ssm(content, tensors)
