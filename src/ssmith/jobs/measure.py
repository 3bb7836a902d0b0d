"""Measure one model on one split of one data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssmith import api
from ssmith.core.checks import check_choice
from ssmith.core.errors import UnsupportedError
from ssmith.core.names import unknown_name
from ssmith.core.sequences import SPLITS, Task
from ssmith.evaluation import METRICS, Metric, default_metric
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
    metric = metric_named(config.metric, answers.task)
    part = sequences.split(config.split)
    found = api.measure(loaded, part, metric, seed=config.seed, batch_size=config.batch_size)
    return {
        "model": model,
        "data": sequences.describe(),
        "split": config.split,
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "estimate": found.as_dict(),
        "interval": found.method,
        "level": found.level,
        "count": found.count,
    }


def metric_named(name: str | None, task: Task) -> Metric:
    """Return a metric; dashes, underscores and blanks in its name are alike.

    Args:
        name: of the metric; None for the default of the task.
        task: what the model predicts.

    Returns:
        The metric.

    Raises:
        InputError: if there is no such metric, or it does not fit the task.
    """
    if name is None:
        return default_metric(task)
    fitting = {
        _plain(metric.name): metric
        for metric in METRICS.values()
        if (metric.name in ("accuracy", "cross-entropy")) == (task == "classification")
    }
    if _plain(name) not in fitting:
        raise unknown_name(f"there is no metric {name!r} for {task}", _plain(name), sorted(fitting))
    return fitting[_plain(name)]


def check_split(name: str) -> None:
    """Raise unless there is such a split.

    Args:
        name: of the split.

    Raises:
        InputError: otherwise.
    """
    check_choice("split", name, SPLITS)


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")
