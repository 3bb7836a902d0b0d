"""How long a model takes for one more step, or for a prompt: what a target in time is held to."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ssmith.core.budget import TimedQuantity
from ssmith.core.errors import UnsupportedError
from ssmith.core.rows import Rows
from ssmith.core.sequences import Sequences
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.runs import runs_of
from ssmith.evaluation.timing import time_pair
from ssmith.families import SequenceModel

PROMPT = 512
"""Steps of the prompt."""
_SECONDS = 0.02


def milliseconds_of(model: nn.Module, what: TimedQuantity) -> float:
    """Time one sequence's next step, ``"step_time"``, or `PROMPT` steps at once, ``"prompt_time"``.

    The median in milliseconds. It runs as it is served: a language model on the engine, with the
    state that it carries. Values are zeros, on which no time depends. Raises `UnsupportedError` if
    it is another network.
    """
    runs = runs_of(model, _zeros_for(model))
    with torch.no_grad(), runs.around():
        run = runs.step(1) if what == "step_time" else runs.batch
        return 1e3 * min(time_pair(run, run, seconds=_SECONDS).medians)


def _zeros_for(model: Any) -> Rows:
    one = torch.tensor([PROMPT])
    ids = torch.zeros(1, PROMPT, dtype=torch.int64)
    if isinstance(model, SequenceModel):
        channels = model.config.channels
        series = torch.zeros(1, PROMPT, channels) if channels else ids
        return Sequences(x=series, lengths=one, y=torch.zeros(1, dtype=torch.int64))
    if hasattr(model, "get_input_embeddings") and hasattr(model, "config"):
        return TokenWindows(
            ids=ids, lengths=one, scored_from=torch.ones_like(one), text_bytes=None,
            vocabulary=int(model.config.vocab_size), name="zeros",
        )  # fmt: skip
    raise UnsupportedError(
        f"{type(model).__name__} has no step or prompt that could be timed",
        allowed="sequence models and language models",
        next_step="give a target in parameters, bytes or state_bytes",
    )
