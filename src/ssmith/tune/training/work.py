"""What a tuning run works on, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from ssmith.tune.training.config import TrainingConfig
from ssmith.tune.training.objectives import Objective


@runtime_checkable
class Listener(Protocol):
    """Who is told how far a run is."""

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Be told that ``done`` of ``total`` steps are done."""


def _nobody(stage: str, done: int, total: int, note: str = "") -> None:
    """Listen to nothing."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that share a learning rate.

    Args:
        name: what the settings call it.
        parameters: by name in the model.
        rate: its learning rate.
    """

    name: str
    parameters: Mapping[str, nn.Parameter]
    rate: float


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is trained, on what, and where it is kept.

    Args:
        objective: what is learned.
        train: rows to learn from.
        validation: rows that stop the training and choose its best step.
        config: see `TrainingConfig`.
        groups: everything that is trained, each parameter once.
        read: returns the tuned tensors as they are now.
        write: puts such tensors back.
        place: directory of the checkpoints; None for none.
        keep_last: end with the last weights instead of those that validated best.
        identity: JSON-ready facts a checkpoint must share to be resumed.
        listener: told after each step.
    """

    objective: Objective
    train: Sequence[Any]
    validation: Sequence[Any]
    config: TrainingConfig
    groups: Sequence[Group]
    read: Callable[[], dict[str, Tensor]]
    write: Callable[[Mapping[str, Tensor]], None]
    place: Path | None = None
    keep_last: bool = False
    identity: Mapping[str, Any] = field(default_factory=dict)
    listener: Listener = _nobody


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a tuning run did.

    Args:
        best_step: the step whose weights the model now has; 0 for those it started with.
        steps: optimiser steps taken.
        losses: mean training loss of each step.
        looks: per look at the validation split: step, means, score.
        stopped_early: whether patience ran out.
        seconds: time of the steps, without validation; of the present process only.
        tokens_per_second: valid tokens or steps of series per second of those; None if none ran.
        processes: that shared each step.
    """

    best_step: int
    steps: int
    losses: list[float]
    looks: list[dict[str, Any]]
    stopped_early: bool
    seconds: float
    tokens_per_second: float | None
    processes: int
