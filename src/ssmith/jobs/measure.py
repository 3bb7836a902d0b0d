"""Measure one model on one split of one data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssmith import api
from ssmith.core.checks import check_choice
from ssmith.core.errors import UnsupportedError
from ssmith.core.sequences import SPLITS
from ssmith.evaluation import task_of
from ssmith.families import answers_of


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What to measure.

    Args:
        split: train, validation, selection or test.
        metric: name of a metric; the default of the task if None.
        seed: of the bootstrap, where the interval is one.
        batch_size: sequences per forward pass.
    """

    split: str = "test"
    metric: str | None = None
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_split(self.split)


def measure(model: str, data: str, config: MeasureConfig) -> dict[str, Any]:
    """Measure a model's quality.

    Args:
        model: a directory, a hub id or ``embedded:NAME``.
        data: ``embedded:NAME`` or a file.
        config: what to measure.

    Returns:
        JSON-ready: model, data, split, metric, estimate, interval, level and count.
    """
    loaded = api.load(model)
    answers = answers_of(loaded)
    if answers is None:
        raise UnsupportedError(
            f"{model} predicts tokens, and {data} asks for one answer to a sequence",
            allowed="models with a head",
            next_step="give it a text, or a head with `ssmith tune`",
        )
    sequences = api.load_data(data, loaded, needs=(config.split,))
    part = sequences.split(config.split)
    task = task_of(loaded, part, config.metric)
    found = api.evaluate(loaded, part, task, seed=config.seed, batch_size=config.batch_size)
    return {
        "model": model,
        "data": sequences.describe(),
        "split": config.split,
        **found.describe(),
    }


def check_split(name: str) -> None:
    """Raise unless there is such a split.

    Args:
        name: of the split.

    Raises:
        InputError: otherwise.
    """
    check_choice("split", name, SPLITS)
