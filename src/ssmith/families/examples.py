"""A small random batch that a model can run on, and the main thing it returns."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.core.seeds import generator
from ssmith.families.heads import answers_of
from ssmith.families.sequence import SequenceModel

_ROWS, _STEPS = 2, 16


def example_batch(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Return arguments of a model's forward: two random sequences of 16 steps."""
    draw = generator(seed, "example batch")
    device = next(model.parameters()).device
    asked = answers_of(model)
    if asked is not None and asked.vocabulary is None:
        size = (_ROWS, _STEPS, asked.channels or 1)
        series = torch.randn(size, generator=draw, dtype=torch.float64)
        return {"x": series.to(device=device, dtype=next(model.parameters()).dtype)}
    own = getattr(getattr(model, "config", None), "vocab_size", None)
    vocabulary = own if asked is None else asked.vocabulary
    if not isinstance(vocabulary, int):
        raise InputError(
            f"it is not known what {type(model).__name__} takes",
            next_step="give a batch: keyword arguments of its forward",
        )
    ids = torch.randint(vocabulary, (_ROWS, _STEPS), generator=draw).to(device)
    return {"x" if isinstance(model, SequenceModel) else "input_ids": ids}


def main_output(returned: Any) -> Tensor:
    """Return the tensor a model was run for: logits, else the first one of real numbers."""
    if isinstance(returned, Tensor):
        return returned
    for name in ("logits", "last_hidden_state"):
        found = getattr(returned, name, None)
        if isinstance(found, Tensor):
            return found
    values = returned.values() if isinstance(returned, dict) else returned
    for item in values if isinstance(values, tuple | list) else list(values):
        if isinstance(item, Tensor) and item.is_floating_point():
            return item
    raise InputError(
        f"{type(returned).__name__} holds no tensor of real numbers",
        next_step="return a tensor, or a transformers output",
    )
