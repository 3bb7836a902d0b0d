"""What a job's language model still knows of what stood far back."""

from __future__ import annotations

from torch import nn

from ssmith.core.recall import RecallConfig, RecallRows
from ssmith.core.text import Text
from ssmith.data import RECALL_TASKS, recall_rows
from ssmith.jobs.source import Source, tokenizer_for


def recall_texts_of(
    loaded: nn.Module, model: str, source: Source, split: str, *, config: RecallConfig, seed: int
) -> dict[str, RecallRows]:
    """Return texts of each task of recall, their gaps filled from a split.

    None where none are asked for, or the data is no text.
    """
    text = source.data
    if not config.recall_texts or not isinstance(text, Text):
        return {}
    tokenizer = tokenizer_for(loaded, model)
    return {
        task: recall_rows(
            task,
            tokenizer,
            text.split(split),
            count=config.recall_texts,
            length=config.recall_length,
            seed=seed,
        )
        for task in RECALL_TASKS
    }
