"""What reads and writes text for a language model: its vocabulary and where it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn


def vocabulary_of(model: nn.Module | None) -> int | None:
    """Return how many token ids a language model knows; None for any other model."""
    known: Any = model
    if not hasattr(model, "get_input_embeddings"):
        return None
    return int(known.get_input_embeddings().weight.shape[0])


def directory_of(model: nn.Module | None) -> Path | None:
    """Return the directory a transformers model was loaded from; None if there is none."""
    name = getattr(getattr(model, "config", None), "name_or_path", "")
    return Path(name) if name and Path(name).is_dir() else None
