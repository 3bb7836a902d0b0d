"""Compare two models on the same data: quality in pairs, speed, memory and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from ssmith import api
from ssmith.artefact import locate
from ssmith.core.details import CompareDetails, ToldChange
from ssmith.core.errors import ModelError
from ssmith.core.inspection import Inspection
from ssmith.core.layers import STATE
from ssmith.core.progress import Progress, silent
from ssmith.core.recall import RecallConfig
from ssmith.core.receipt import Receipt, versions
from ssmith.core.rows import Rows
from ssmith.core.sections import MethodSection, ModelSection, OwnQuality, UnitRemoved
from ssmith.evaluation import OwnMetric, answers_of_own, compare_own
from ssmith.evaluation.recall import compare_recall, recall_section
from ssmith.families import answers_of, vocabulary_of
from ssmith.jobs.measuring import MeasuringConfig
from ssmith.jobs.pilot.costs import measure_costs
from ssmith.jobs.recall import recall_texts_of
from ssmith.jobs.source import RowsConfig, one_batch, open_source, reads_text


@dataclass(frozen=True, kw_only=True)
class CompareConfig(RecallConfig, MeasuringConfig):
    """What to compare.

    Args:
        rows: on which rows.
        metric: name of a task; the usual one of the models if None.
        seed: of resampling.
    """

    rows: RowsConfig = field(default_factory=RowsConfig)
    metric: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_recall()
        self.speed()


def compare(
    before: str,
    after: str,
    data: str,
    config: CompareConfig,
    *,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Receipt:
    """Compare two models; nothing is judged and nothing is written."""
    text, split = reads_text(before), config.rows.split
    config.rows.check_kind(text=text)
    config.check_own(answers=not text)
    own = config.own()
    models = api.load(before), api.load(after)
    check_alike(models, (before, after))
    source = open_source(models[0], before, data, config.rows.field, needs=(split,))
    rows = source.rows(split, config.rows)
    size = config.rows.at_once(rows)
    quality = api.compare(*models, rows, config.metric, seed=config.seed, batch_size=size)
    recall = compare_recall(
        *models,
        recall_texts_of(models[0], before, source, split, config=config, seed=config.seed),
        seed=config.seed,
        batch_size=size,
    )
    progress("quality", 1, 1)
    costs = measure_costs(
        models, (locate(before), locate(after)), one_batch(rows, size), config.speed()
    )
    progress("speed and memory", 1, 1)
    answers = answers_of(models[0])
    first, second = (
        api.inspect(model, name) for model, name in zip(models, (before, after), strict=True)
    )
    return Receipt(
        action="compare",
        model=ModelSection(
            name=f"{before} → {after}",
            family=", ".join(sorted({layer.family for layer in first.layers})),
            task="language modelling" if answers is None else answers.task,
            layers=len(first.layers),
            digest_before=first.digest,
            digest_after=second.digest,
        ),
        method=MethodSection(command=tuple(command)),
        seed=config.seed,
        versions=versions(),
        data=source.describe(rows),
        removed=_removed((first, second)),
        quality=replace(
            quality.section(split=split),
            own=None if own is None else _own_section(own, models, rows, size, config.seed),
            recall=recall_section(recall, config.recall_length),
        ),
        findings=(*source.findings(), *quality.findings(), *costs.speed.findings()),
        details=CompareDetails(
            changes=tuple(
                ToldChange(kind=item.kind, name=item.name, text=item.text)
                for item in costs.changes()
            )
        ),
        speed=costs.speed.section(),
        memory=costs.memory.section(),
        size=costs.size,
    )


def check_alike(models: tuple[nn.Module, nn.Module], names: tuple[str, str]) -> None:
    """Raise unless two models read and predict the same."""
    first, second = (
        {"token ids": vocabulary_of(model)} if answers is None else vars(answers)
        for model, answers in ((model, answers_of(model)) for model in models)
    )
    if first.keys() != second.keys():
        raise ModelError(
            f"{names[0]} and {names[1]} do not predict the same",
            allowed="two language models, or two models of one answer to a sequence",
        )
    for name, value in first.items():
        if value != second[name]:
            raise ModelError(
                f"the first model has {name} {value!r}, the second {second[name]!r}",
                allowed="two models of the same inputs and outputs",
            )


def _own_section(
    own: OwnMetric, models: tuple[nn.Module, nn.Module], rows: Rows, size: int, seed: int
) -> OwnQuality:
    (before, y), (after, _) = (answers_of_own(model, rows, size) for model in models)
    return compare_own(own, before, after, y, seed=seed).section()


def _removed(found: tuple[Inspection, Inspection]) -> dict[str, UnitRemoved]:
    """Return states that are on, before and after; nothing where they did not become fewer."""
    first, second = (
        sum(layer.units[STATE] - layer.masked.get(STATE, 0) for layer in item.layers)
        for item in found
    )
    if not 0 < second <= first:
        return {}
    return {STATE: UnitRemoved(before=first, after=second, fraction=1 - second / first)}
