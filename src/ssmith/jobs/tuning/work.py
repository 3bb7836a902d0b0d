"""An adapter as the work of a training: groups with their rates, and tensors to read and write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.core.progress import Progress
from ssmith.jobs.tuning.training_set import TrainingSet
from ssmith.tune import adapters
from ssmith.tune.training import RateGroup, TrainingConfig, Work, starting_rate

HEADS = ("score", "encoder", "head")
"""Children of a model that answer for a whole sequence."""


def rate_groups(
    model: nn.Module, name: str, training: TrainingConfig, published: str | None = None
) -> tuple[list[RateGroup], dict[str, dict[str, Any]]]:
    """Return what an adapter trains in groups, each with its learning rate.

    Where no rate is given, the one ``published`` for a data set is taken, or the median over all.
    The rates tell value and source.
    """
    named: dict[str, dict[str, nn.Parameter]] = {}
    for group, parameters in adapters.groups(model, name).items():
        for parameter, value in parameters.items():
            inside = "head" if parameter.split(".")[0] in HEADS else group
            named.setdefault(inside, {})[parameter] = value
    _check_known(training.rates, named)
    rates: dict[str, dict[str, Any]] = {}
    for group in named:
        if group in training.rates or training.rate is not None:
            rates[group] = {"value": training.rates.get(group, training.rate), "source": "given"}
        else:
            rates[group] = dataclasses.asdict(starting_rate(group, published))
    groups = [
        RateGroup(name=group, parameters=parameters, rate=rates[group]["value"])
        for group, parameters in named.items()
    ]
    return groups, rates


def _check_known(given: Mapping[str, float], named: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(named))
    if unknown:
        raise InputError(f"rates names group {unknown[0]!r}", allowed=", ".join(named))


def adapter_work(
    model: nn.Module,
    name: str,
    data: TrainingSet,
    config: TrainingConfig,
    groups: Sequence[RateGroup],
    *,
    identity: Mapping[str, Any],
    checkpoint: Path | None,
    progress: Progress,
) -> Work:
    """Return the work of training an adapter."""

    def read() -> dict[str, Tensor]:
        return adapters.state(model, name)

    def write(tensors: Mapping[str, Tensor]) -> None:
        adapters.load_state_(model, name, tensors)

    return Work(
        objective=data.objective,
        train=data.rows["train"],
        validation=data.rows["validation"],
        config=config,
        groups=groups,
        read=read,
        write=write,
        checkpoint=checkpoint,
        identity={
            "data": data.sha256,
            "groups": {group.name: group.rate for group in groups},
            **identity,
        },
        progress=progress,
    )
