"""Compare two models on the same data: quality in pairs, speed, memory and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ssmith import api
from ssmith.artefact import locate
from ssmith.core.errors import ModelError
from ssmith.core.inspection import Inspection
from ssmith.core.layers import STATES
from ssmith.core.progress import Progress, silent
from ssmith.core.receipt import Receipt, versions
from ssmith.core.sequences import Sequences
from ssmith.evaluation import (
    OwnMetric,
    SpeedConfig,
    compare_outcomes,
    compare_own,
    own_metric,
    predict,
    task_of,
)
from ssmith.families import SequenceModel
from ssmith.jobs.measure import check_split
from ssmith.jobs.pilot.costs import Costs, measure_costs

_ALIKE = ("task", "classes", "outputs", "channels", "vocabulary")


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What to compare.

    Args:
        split: train, validation, selection or test.
        metric: name of a metric; the default of the task if None.
        own_metric: the user's own metric, ``"module:function"`` or ``"file.py:function"``.
        own_lower_is_better: direction of the own metric.
        seed: of resampling.
        batch_size: sequences per forward pass, also when timed.
        threads: CPU threads; None leaves PyTorch's setting.
        speed_seconds: time for each of the three speed measurements.

    Raises:
        InputError: if a value is outside its domain.
    """

    split: str = "test"
    metric: str | None = None
    own_metric: str | None = None
    own_lower_is_better: bool = False
    seed: int = 0
    batch_size: int = 64
    threads: int | None = None
    speed_seconds: float = 2.0

    def __post_init__(self) -> None:
        check_split(self.split)
        self.speed()

    def own(self) -> OwnMetric | None:
        """Return the user's own metric, if there is one; its code is imported."""
        if self.own_metric is None:
            return None
        return own_metric(self.own_metric, higher_is_better=not self.own_lower_is_better)

    def speed(self) -> SpeedConfig:
        """Return how speed is measured."""
        return SpeedConfig(seconds=self.speed_seconds, threads=self.threads)


def compare(
    before: str,
    after: str,
    data: str,
    config: CompareConfig,
    *,
    command: Sequence[str] = (),
    progress: Progress = silent,
) -> Receipt:
    """Compare two models; nothing is judged and nothing is written.

    Args:
        before: a directory, a hub id or ``embedded:NAME``.
        after: the same for the second model.
        data: ``embedded:NAME`` or a file.
        config: what to compare.
        command: the command line to repeat it, for the receipt.
        progress: told after each part.

    Returns:
        The receipt, without a verdict.

    Raises:
        ModelError: if the two models do not predict the same.
    """
    own = config.own()
    models = api.load_sequence_model(before), api.load_sequence_model(after)
    _check_alike(models)
    sequences = api.load_data(data, models[0], needs=(config.split,))
    part = sequences.split(config.split)
    quality = _quality(models, part, config, own)
    progress("quality", 1, 1)
    costs = measure_costs(
        models,
        (locate(before), locate(after)),
        part.first(config.batch_size),
        config.speed(),
    )
    progress("speed and memory", 1, 1)
    return Compared(
        names=(before, after),
        found=(api.inspect(models[0], before), api.inspect(models[1], after)),
        task=models[0].config.task,
        data=sequences.describe(),
        quality=quality,
        costs=costs,
    ).receipt(config.seed, command)


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What was found of two models, (before, after).

    Args:
        names: what the user called them.
        found: what they are.
        task: what they predict.
        data: the data section of a receipt.
        quality: the quality section.
        costs: speed, memory and size.
    """

    names: tuple[str, str]
    found: tuple[Inspection, Inspection]
    task: str
    data: dict[str, Any]
    quality: dict[str, Any]
    costs: Costs

    def receipt(self, seed: int, command: Sequence[str]) -> Receipt:
        """Return the receipt, without a verdict.

        Args:
            seed: of resampling.
            command: the command line to repeat it.

        Returns:
            The receipt.
        """
        first, second = self.found
        changes = [
            {"kind": item.kind, "name": item.name, "text": item.text}
            for item in self.costs.changes()
        ]
        return Receipt(
            action="compare",
            model={
                "name": " → ".join(self.names),
                "family": ", ".join(sorted({layer.family for layer in first.layers})),
                "task": self.task,
                "layers": len(first.layers),
                "digest_before": first.digest,
                "digest_after": second.digest,
            },
            method={"command": list(command)},
            seed=seed,
            versions=versions(),
            data=self.data,
            removed=_removed(self.found),
            quality=self.quality,
            findings=self.costs.findings(),
            details={"changes": changes},
            **self.costs.sections(),
        )


def _check_alike(models: tuple[SequenceModel, SequenceModel]) -> None:
    for name in _ALIKE:
        first, second = (getattr(model.config, name) for model in models)
        if first != second:
            raise ModelError(
                f"the first model has {name} {first!r}, the second {second!r}",
                allowed="two models of the same inputs and outputs",
            )


def _quality(
    models: tuple[SequenceModel, SequenceModel],
    part: Sequences,
    config: CompareConfig,
    own: OwnMetric | None,
) -> dict[str, Any]:
    task = task_of(models[0], part, config.metric)
    outputs = [predict(model, part, config.batch_size) for model in models]
    outcomes = [task.of_outputs(item, part.y) for item in outputs]
    comparison = compare_outcomes(outcomes[0], outcomes[1], task.metric, seed=config.seed)
    section = None
    if own is not None:
        section = compare_own(own, outputs[0], outputs[1], part.y, seed=config.seed).as_dict()
    return comparison.as_dict(split=config.split, own=section)


def _removed(found: tuple[Inspection, Inspection]) -> dict[str, Any]:
    """Return states that are on, before and after; nothing where they did not become fewer."""
    first, second = (
        sum(layer.units[STATES] - layer.masked.get(STATES, 0) for layer in item.layers)
        for item in found
    )
    if not 0 < second <= first:
        return {}
    return {STATES: {"before": first, "after": second, "fraction": 1 - second / first}}
