"""The tasks that have a name, and which of them a network and its rows ask for."""

from __future__ import annotations

from torch import nn

from ssmith.core.errors import InputError, ModelError
from ssmith.core.names import unknown_name
from ssmith.core.rows import Rows
from ssmith.core.sequences import Task as Kind
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.metrics import (
    ACCURACY,
    CROSS_ENTROPY,
    LABEL_ACCURACY,
    MEAN_ABSOLUTE_ERROR,
    RMSE,
    absolute_error,
    is_right,
    negative_log_likelihood,
    share_right,
    squared_error,
)
from ssmith.evaluation.perplexity import PERPLEXITY_TASK
from ssmith.evaluation.task import Task
from ssmith.families import answers_of

TASKS = {
    task.metric.name: task
    for task in (
        Task(metric=ACCURACY, score=is_right),
        Task(metric=LABEL_ACCURACY, score=share_right),
        Task(metric=CROSS_ENTROPY, score=negative_log_likelihood),
        Task(metric=MEAN_ABSOLUTE_ERROR, score=absolute_error),
        Task(metric=RMSE, score=squared_error),
        PERPLEXITY_TASK,
    )
}
_SHORT = {"mae": "mean absolute error"}
_OF_TEXT = ("perplexity",)
_OF: dict[str, Kind] = {
    "accuracy": "classification",
    "cross-entropy": "classification",
    "label accuracy": "multi-label",
}


def task_of(model: nn.Module, rows: Rows, task: Task | str | None = None) -> Task:
    """Return the task that is meant: perplexity of text, else by what the network predicts."""
    if isinstance(task, Task):
        return task
    text, answers = isinstance(rows, TokenWindows), answers_of(model)
    if text:
        if task is not None and plain_name(task) not in _OF_TEXT:
            raise InputError(f"{task} on text", allowed="perplexity, the default")
        return PERPLEXITY_TASK
    if task is not None:
        named = named_task(task, None if answers is None else answers.task)
        if named is PERPLEXITY_TASK:
            raise InputError(
                f"perplexity of {rows.describe().name}",
                allowed="windows of text, e.g. text.windows(2048)",
                next_step="give a Task of your own for other rows",
            )
        return named
    if answers is None:
        raise ModelError(
            f"{type(model).__name__} does not say what it predicts",
            allowed=f"a task: {', '.join(TASKS)}, or an ssmith.Task of your own",
            next_step='name one, e.g. task="accuracy"',
        )
    return default_task(answers.task)


def default_task(kind: Kind) -> Task:
    """Return accuracy for classes and labels, mean absolute error for regression and forecasts."""
    names: dict[Kind, str] = {"classification": "accuracy", "multi-label": "label accuracy"}
    return TASKS[names.get(kind, "mean absolute error")]


def named_task(name: str, kind: Kind | None = None) -> Task:
    """Return a task by name; dashes, underscores and blanks in it are alike.

    Of what the network predicts (``kind``), only tasks that fit it are known.
    """
    fitting = {
        plain_name(known): task
        for known, task in TASKS.items()
        if kind is None
        or (known not in _OF_TEXT and _OF.get(known) == (kind if kind in _OF.values() else None))
    }
    wanted = plain_name(_SHORT.get(plain_name(name), name))
    if wanted not in fitting:
        of = "" if kind is None else f" for {kind}"
        raise unknown_name(f"there is no metric {name!r}{of}", wanted, sorted(fitting))
    return fitting[wanted]


def plain_name(name: str) -> str:
    """Return a name as it is compared: lower case, with dashes."""
    return name.strip().lower().replace("_", "-").replace(" ", "-")
