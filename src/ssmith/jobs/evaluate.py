"""Measure one model on one split of its data, and on tasks of lm-eval."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ssmith import api
from ssmith.core.checks import check_integer
from ssmith.core.errors import InputError
from ssmith.core.recall import RecallConfig, recall_name
from ssmith.core.sequences import SequenceData
from ssmith.core.settings import to_mapping
from ssmith.evaluation import own_metric
from ssmith.evaluation.harness import HarnessConfig, check_harness, harness_config, run_tasks
from ssmith.evaluation.intervals import Estimate
from ssmith.evaluation.measures import Measure
from ssmith.evaluation.recall import recall_of
from ssmith.jobs.recall import recall_texts_of
from ssmith.jobs.source import RowsConfig, open_source, reads_text, tokenizer_for
from ssmith.jobs.train.measures import measured


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(RecallConfig):
    """What to measure.

    Args:
        rows: on which rows.
        metric: name of a task; the usual one of the model if None.
        own_metric: the user's own metric, ``"module:function"`` or ``"file.py:function"``.
        lm_eval: tasks of lm-eval to run as well: names it knows, or paths of YAML files.
        lm_eval_limit: documents of each of these tasks at most, the first ones; None for all.
        few_shot: solved examples before each question; None for each task's own number.
        seed: of the bootstrap, where the interval is one.
    """

    rows: RowsConfig = field(default_factory=RowsConfig)
    metric: str | None = None
    own_metric: str | None = None
    lm_eval: tuple[str, ...] = ()
    lm_eval_limit: int | None = None
    few_shot: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, at_least=0)
        self.check_recall()
        self.harness()

    def harness(self) -> HarnessConfig | None:
        """Return which tasks of lm-eval are run, or None if none is."""
        return harness_config(
            self.lm_eval,
            self.lm_eval_limit,
            self.few_shot,
            batch_size=self.rows.batch_size or 8,
            seed=self.seed,
        )


def evaluate(model: str, data: str | None, config: EvaluateConfig) -> dict[str, Any]:
    """Measure a model's quality.

    JSON-ready: model, data, split, metric, estimate, interval, level, count, what else was measured
    on the same rows, and ``lm_eval``, a row for each metric of each task. Without data there are
    only these tasks.
    """
    text, harness = reads_text(model), config.harness()
    config.rows.check_kind(text=text)
    if harness is not None and not text:
        raise InputError("lm_eval is for language models", next_step="leave it out")
    if config.recall_texts and (not text or data is None):
        raise InputError(
            "recall_texts is for language models and a text that fills the gaps",
            next_step="give data, or leave it out",
        )
    check_harness(harness)
    if config.own_metric is not None and (text or data is None):
        raise InputError("own_metric is for models of classes or numbers", next_step="leave it out")
    loaded = api.load(model)
    tasks = []
    if harness is not None:
        tasks = [
            item.as_dict() for item in run_tasks(loaded, tokenizer_for(loaded, model), harness)
        ]
    if data is None:
        return {"model": model, "lm_eval": tasks}
    split = config.rows.split
    source = open_source(loaded, model, data, config.rows.field, needs=(split,))
    rows = source.rows(split, config.rows)
    found = api.evaluate(
        loaded, rows, config.metric, seed=config.seed, batch_size=config.rows.batch_size
    )
    recalled = recall_of(
        loaded,
        recall_texts_of(loaded, model, source, split, config=config, seed=config.seed),
        batch_size=config.rows.batch_size,
    )
    also: tuple[Measure, ...] = ()
    if isinstance(source.data, SequenceData):
        own = None if config.own_metric is None else own_metric(config.own_metric)
        size = config.rows.at_once(rows)
        also = measured(loaded, source.data, split, own, batch_size=size)
    elif config.own_metric is not None:
        raise InputError("own_metric reads sequences", next_step="leave it out")
    return {
        "model": model,
        "measures": [item.as_dict() for item in also],
        "data": to_mapping(source.describe(rows)),
        "split": split,
        **found.describe(),
        "findings": [item.as_dict() for item in (*source.findings(), *found.findings())],
        "recall": {name: item.describe() for name, item in recalled.items()},
        "text": "\n".join([f"{found}", *_recall_said(recalled, config.recall_length)])
        if text
        else "\n".join(
            [
                f"{found}",
                *(f"{item.name}: {item.text}" for item in also),
                f"on {data}, split {split}",
            ]
        ),
        "lm_eval": tasks,
    }


def _recall_said(recalled: dict[str, Estimate], length: int) -> list[str]:
    return [f"{recall_name(name, f'{length}')}: {item.text}" for name, item in recalled.items()]
