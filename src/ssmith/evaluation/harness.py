"""Tasks of lm-eval, run in process on a model in memory."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssmith.core.checks import check_integer
from ssmith.core.errors import DataError, InputError, SsmithError
from ssmith.core.optional import require
from ssmith.core.sections import Measured, TaskQuality
from ssmith.core.tokenizer import Tokenizer
from ssmith.evaluation.answers import LiveModel
from ssmith.evaluation.intervals import quantile, resample

EXTRA = "lm-eval"
LEVEL = 0.95
_RESAMPLES = 10_000
_NAME = re.compile(r"^task:\s*[\"']?([\w.-]+)", re.M)
_YAML = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class HarnessConfig:
    """Which tasks, and how much of them.

    Tasks are names lm-eval knows, or paths of YAML files that define one; of each the first
    ``limit`` documents are answered, and ``few_shot`` is each task's own number if None.
    """

    tasks: tuple[str, ...]
    limit: int | None = None
    few_shot: int | None = None
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tasks or not all(self.tasks):
            raise InputError(
                "no task is named", allowed="names of lm-eval, or paths of .yaml files"
            )
        for name in self.tasks:
            if name.endswith(_YAML) and not Path(name).is_file():
                raise InputError(f"there is no task file {name}", next_step="check the path")
        if self.limit is not None:
            check_integer("limit", self.limit, at_least=1)
        if self.few_shot is not None:
            check_integer("few_shot", self.few_shot, at_least=0)
        check_integer("batch_size", self.batch_size, at_least=1)
        check_integer("seed", self.seed, at_least=0)


def harness_config(
    tasks: Sequence[str], limit: int | None, few_shot: int | None, *, batch_size: int, seed: int
) -> HarnessConfig | None:
    """Return which tasks are run, or None if none is asked for."""
    if not tasks:
        for name, value in (("lm_eval_limit", limit), ("few_shot", few_shot)):
            if value is not None:
                raise InputError(f"{name} is {value} without lm_eval", next_step="name a task")
        return None
    return HarnessConfig(
        tasks=tuple(tasks), limit=limit, few_shot=few_shot, batch_size=batch_size, seed=seed
    )


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """One metric of one task.

    Args:
        task: its name.
        metric: its name, with lm-eval's filter behind a comma.
        value: as lm-eval aggregates it.
        error: lm-eval's standard error; None if it gives none.
        count: documents.
        higher_is_better: direction; None if lm-eval does not say.
        per_document: the metric of each document; empty where it is none (of whole sets alone).
        about: version of the task, solved examples.
    """

    task: str
    metric: str
    value: float
    error: float | None
    count: int
    higher_is_better: bool | None
    per_document: tuple[float, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict, without the documents' own values."""
        return {
            "task": self.task,
            "metric": self.metric,
            "value": self.value,
            "standard_error": self.error,
            "count": self.count,
            "higher_is_better": self.higher_is_better,
            **self.about,
        }


def check_harness(config: HarnessConfig | None) -> None:
    """Refuse early, before any long work, if lm-eval is asked for and not installed."""
    if config is not None:
        require("lm_eval", extra=EXTRA, purpose="--lm-eval")


def run_tasks(model: nn.Module, tokenizer: Tokenizer, config: HarnessConfig) -> list[TaskResult]:
    """Run tasks of lm-eval on a model as it stands in memory.

    One result for each metric of each task; a task that it does not know, or whose data set is not
    on this machine, is refused.
    """
    base = require("lm_eval.api.model", extra=EXTRA, purpose="--lm-eval").LM
    evaluator = require("lm_eval.evaluator", extra=EXTRA, purpose="--lm-eval")
    with _quiet():
        # Its methods come from our class; lm-eval's gives what it expects besides.
        live = type("LiveLM", (LiveModel, base), {})(model, tokenizer, config.batch_size)
        try:
            found = evaluator.evaluate(
                live, _loaded(config), limit=config.limit, bootstrap_iters=_RESAMPLES
            )
        except SsmithError:
            raise
        except Exception as error:
            # Data sets, templates and metrics of a task raise whatever they like.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"lm-eval cannot run {', '.join(config.tasks)}: {reason}",
                next_step="check that the task's data set is on this machine or can be downloaded",
            ) from error
    return list(_results(found))


def _loaded(config: HarnessConfig) -> dict[str, Any]:
    """Return lm-eval's tasks, with the number of solved examples that was asked for."""
    files = [Path(name) for name in config.tasks if name.endswith(_YAML)]
    manager = require("lm_eval.tasks", extra=EXTRA, purpose="--lm-eval").TaskManager(
        include_path=sorted({str(file.parent) for file in files}),
        # Reading the thousands of files that come with lm-eval takes longer than a small task.
        include_defaults=len(files) < len(config.tasks),
    )
    names = [_task_name(name) for name in config.tasks]
    for name in sorted(set(names) - set(manager.all_tasks)):
        raise InputError(
            f"lm-eval knows no task {name!r}",
            allowed="a name that `lm-eval ls tasks` shows, or the path of a .yaml file",
        )
    loaded: dict[str, Any] = manager.load(names)
    for task in loaded["tasks"].values():
        if config.few_shot is not None:
            task.set_config(key="num_fewshot", value=config.few_shot)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=config.seed)
    return loaded


def _task_name(name: str) -> str:
    """Return the name of a task, read from its file where it is one."""
    if not name.endswith(_YAML):
        return name
    found = _NAME.search(Path(name).read_text(encoding="utf-8"))
    if found is None:
        raise InputError(f"{name} names no task", allowed="a line `task: NAME`")
    return found[1]


def _results(found: Mapping[str, Any]) -> Iterator[TaskResult]:
    for task, values in found["results"].items():
        samples = found.get("samples", {}).get(task, [])
        directions = found["higher_is_better"].get(task) or {}
        about = {"version": found["versions"].get(task), "few_shot": found["n-shot"].get(task)}
        for key, value in values.items():
            name, comma, filtered = key.partition(",")
            if not comma or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{name}_stderr,{filtered}")
            rows = _per_document(samples, name, filtered, float(value))
            yield TaskResult(
                task=task,
                metric=name if filtered == "none" else key,
                value=float(value),
                error=float(error) if isinstance(error, int | float) else None,
                count=len({item["doc_id"] for item in samples}),
                higher_is_better=directions.get(name),
                per_document=rows,
                about=about,
            )


def _per_document(
    samples: Sequence[Mapping[str, Any]], name: str, filtered: str, value: float
) -> tuple[float, ...]:
    """Return a metric of each document if its mean is what was reported, else nothing."""
    rows = sorted(
        (item for item in samples if name in item and item["filter"] == filtered),
        key=lambda item: item["doc_id"],
    )
    if not rows or not all(isinstance(item[name], int | float) for item in rows):
        return ()
    values = tuple(float(item[name]) for item in rows)
    return values if abs(sum(values) / len(values) - value) < 1e-9 else ()


def compare_tasks(
    before: Sequence[TaskResult], after: Sequence[TaskResult], seed: int = 0
) -> tuple[TaskQuality, ...]:
    """Return the results of two models side by side, with differences in pairs of documents.

    One row per metric: before, after, and the difference with its interval, or why there is none.
    """
    second = {(item.task, item.metric): item for item in after}
    rows = []
    for first in before:
        other = second[first.task, first.metric]
        rows.append(
            TaskQuality(
                task=first.task,
                metric=first.metric,
                count=first.count,
                higher_is_better=first.higher_is_better,
                before=first.value,
                after=other.value,
                difference=_difference(first, other, seed),
                about=first.about,
            )
        )
    return tuple(rows)


def _difference(first: TaskResult, second: TaskResult, seed: int) -> Measured:
    value = second.value - first.value
    if not first.per_document or len(first.per_document) != len(second.per_document):
        why = "the metric is of the whole set, not a mean"
        return Measured(value=value, why_no_interval=why)
    pairs = torch.tensor(
        [b - a for a, b in zip(first.per_document, second.per_document, strict=True)],
        dtype=torch.float64,
    )
    drawn = [
        pairs[index].mean(1) for index in resample(len(pairs), seed=seed, resamples=_RESAMPLES)
    ]
    means = torch.cat(drawn)
    low, high = (quantile(means, share) for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    how = f"bootstrap over documents, {_RESAMPLES} resamples"
    return Measured(value=value, low=low, high=high, interval=how, level=LEVEL)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log and the bars of lm-eval and its data sets, made for a terminal, off ours."""
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stderr(StringIO()):
            yield
    finally:
        log.setLevel(level)
