"""What an attached adapter goes through: its warm-up, if it has one, and its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssmith.core.progress import Progress, silent
from ssmith.core.sections import Rate
from ssmith.jobs.tuning.groups import rate_groups
from ssmith.jobs.tuning.training_set import TrainingSet
from ssmith.tune import adapters
from ssmith.tune.training import Own, Training, TrainingConfig, Work, join_processes, train_


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What an adapter learns, how, and where it is kept.

    Args:
        data: what is learned.
        training: settings of the whole run, a warm-up that is paid from it included.
        published: data set whose published rates are taken; None for the measured ones.
        share: of the rates that nobody gave, which is trained with.
        identity: JSON-ready facts that a checkpoint must share.
        checkpoint: file to go on from and to write; None for none.
        warm_up: the same for the warm-up.
        keep_last: end with the last weights instead of those that validate best.
        own: see `Work`.
        progress: told how far it is.
    """

    data: TrainingSet
    training: TrainingConfig
    published: str | None = None
    share: float = 1.0
    identity: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    warm_up: Path | None = None
    keep_last: bool = False
    own: Own | None = None
    progress: Progress = silent

    def total_steps(self) -> int:
        """Return the optimiser steps that were asked for."""
        count = join_processes(self.training.device).count
        return self.training.total_steps(len(self.data.rows["train"]), count)

    def at(self, share: float) -> Lesson:
        """Return the same lesson at a share of the starting rates, with checkpoints of its own."""
        if share == 1:
            return self

        def apart(file: Path | None) -> Path | None:
            return file and file.with_stem(f"{file.stem}-at-{share:g}")

        checkpoint, warm_up = apart(self.checkpoint), apart(self.warm_up)
        return dataclasses.replace(self, share=share, checkpoint=checkpoint, warm_up=warm_up)


def learn_(model: nn.Module, name: str, lesson: Lesson) -> tuple[Training, dict[str, Rate]]:
    """Train an attached adapter; return what happened, and rate and optimiser of each group."""
    left = _warm_up(model, name, lesson)
    settings = dataclasses.replace(lesson.training, steps=left, epochs=None)
    work, rates = _work(model, name, lesson, settings, lesson.checkpoint)
    return train_(model, dataclasses.replace(work, keep_last=lesson.keep_last)), rates


def _warm_up(model: nn.Module, name: str, lesson: Lesson) -> int:
    """Run an adapter's warm-ups, and end them; return the steps that are left."""
    methods = adapters.warming(model, name)
    total = lesson.total_steps()
    steps, left = 0, total
    own: dict[str, Any] = {}
    for method in methods:
        before, after = method.warm_steps(total)
        steps, left = max(steps, before), min(left, after)
        own |= method.warm_training()
    if steps:
        # What warms up stands for whole tensors of the model, which AdamW moves.
        common = {"steps": steps, "epochs": None, "evaluate_every": steps, "patience": None}
        settings = dataclasses.replace(lesson.training, optimizer="adamw", **(common | own))
        work, _ = _work(model, name, lesson, settings, lesson.warm_up)
        train_(model, dataclasses.replace(work, keep_last=True))
    elif methods:
        _descend(model, name, lesson, max(method.gradient_rows() for method in methods))
    if methods:
        adapters.select_(model, name)
    return left


def _work(
    model: nn.Module, name: str, lesson: Lesson, settings: TrainingConfig, checkpoint: Path | None
) -> tuple[Work, dict[str, Rate]]:
    steps = settings.steps or lesson.total_steps()
    groups, rates = rate_groups(
        model, name, settings, lesson.published, steps=steps, share=lesson.share
    )
    data = lesson.data
    work = Work(
        objective=data.objective,
        train=data.rows["train"],
        validation=data.rows["validation"],
        config=settings,
        groups=groups,
        read=lambda: adapters.state(model, name),
        write=lambda tensors: adapters.load_state_(model, name, tensors),
        own=lesson.own,
        checkpoint=checkpoint,
        identity={
            "data": data.sha256,
            "groups": {group.name: [group.rate, group.optimizer] for group in groups},
            **lesson.identity,
        },
        progress=lesson.progress,
    )
    return work, rates


def _descend(model: nn.Module, name: str, lesson: Lesson, count: int) -> None:
    """Move an adapter by its gradient over the first rows; only the direction matters."""
    rows, objective = lesson.data.rows["train"][:count], lesson.data.objective
    size, device = lesson.training.batch_size, lesson.training.device
    model.eval()
    with torch.enable_grad():
        for first in range(0, len(rows), size):
            batch = objective.collate(list(rows[first : first + size]))
            batch = {key: value.to(device) for key, value in batch.items()}
            share = int(objective.counts(batch).sum())
            (objective.loss(model, batch) * share).backward()
    with torch.no_grad():
        for value in adapters.trainable(model, name).values():
            if value.grad is not None:
                value.sub_(value.grad / value.grad.abs().max().clamp(min=1e-30))
                value.grad = None
