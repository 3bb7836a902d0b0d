"""The time of one step of a model that has steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ssmith.core.errors import UnsupportedError
from ssmith.evaluation.timing import Run, time_pair
from ssmith.families import SequenceModel

_SECONDS = 0.02


def step_seconds(model: nn.Module) -> float:
    """Return the median time of one step of one sequence, in seconds."""
    run = _step_of(model)
    with torch.no_grad():
        return min(time_pair(run, run, seconds=_SECONDS).medians)


def _step_of(model: Any) -> Run:
    device = next(model.parameters()).device
    if isinstance(model, SequenceModel):
        config, state = model.config, model.initial_state(1)
        one = (
            torch.zeros(1, config.channels, device=device)
            if config.channels
            else torch.zeros(1, dtype=torch.int64, device=device)
        )
        return lambda: model.step(one, state)
    if hasattr(model, "get_input_embeddings") and hasattr(model, "config"):
        token = torch.zeros(1, 1, dtype=torch.int64, device=device)
        return lambda: model(input_ids=token, use_cache=False)
    raise UnsupportedError(
        f"{type(model).__name__} has no step that could be timed",
        allowed="sequence models and language models",
        next_step="give a target in parameters, bytes or state_bytes",
    )
