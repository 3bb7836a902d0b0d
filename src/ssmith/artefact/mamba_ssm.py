"""Checkpoints of the `mamba_ssm` package: its own ``config.json`` beside the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ssmith.artefact.weights import check_size, read_weights
from ssmith.core.errors import ModelError, SsmithError
from ssmith.families.hf import from_mamba_ssm


def build(directory: Path, content: dict[str, Any]) -> nn.Module:
    """Build the Hugging Face model a `mamba_ssm` checkpoint describes."""
    tensors = read_weights(directory)
    stored = sum(tensor.numel() for tensor in tensors.values())
    for size in ("d_model", "n_layer", "vocab_size"):
        check_size(content.get(size, 0), stored, directory)
    try:
        return from_mamba_ssm(content, tensors)
    except SsmithError:
        raise
    except Exception as error:
        # transformers raises many kinds for a setting of a wrong type.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{directory}: a setting of config.json has no sense: {reason}",
            next_step="restore the original config.json",
        ) from error
