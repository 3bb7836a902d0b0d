"""What a tuning job learns: what the data says, or what a dense model says of it."""

from __future__ import annotations

from typing import Any

from torch import nn

from ssmith import api
from ssmith.core.errors import InputError
from ssmith.families import answers_of, vocabulary_of
from ssmith.families.heads import HeadConfig
from ssmith.families.hf import accelerate_
from ssmith.families.registry import mixers
from ssmith.jobs.tuning.config import TuneConfig
from ssmith.jobs.tuning.lessons import Lessons
from ssmith.tune.training import (
    AnswerDistillation,
    AnswerObjective,
    Distillation,
    LanguageObjective,
    Objective,
)


def objective_for(model: nn.Module, found: Lessons, config: TuneConfig) -> Objective:
    """Return what a model learns.

    Args:
        model: with its head.
        found: the data.
        config: names the dense model, if there is one to imitate.

    Returns:
        The objective.

    Raises:
        InputError: if the dense model answers something else.
    """
    if config.recover_from is None:
        return LanguageObjective() if found.head is None else AnswerObjective(task=found.head.task)
    teacher = api.load(config.recover_from)
    if found.head is not None:
        _check_answers(teacher, found.head, config.recover_from)
        return AnswerDistillation(
            teacher=_ready(teacher, config), task=found.head.task, weight=config.imitate
        )
    if vocabulary_of(teacher) != vocabulary_of(model):
        raise InputError(
            f"{config.recover_from} has {vocabulary_of(teacher)} token ids",
            allowed=f"{vocabulary_of(model)}, as the model has",
        )
    return Distillation(teacher=_ready(teacher, config), weight=config.imitate)


def _ready(teacher: nn.Module, config: TuneConfig) -> nn.Module:
    if mixers(teacher)[0]:
        accelerate_(teacher)
    return teacher.to(config.training.device)


def _check_answers(teacher: nn.Module, head: HeadConfig, name: str) -> None:
    """Refuse a teacher that answers another question than the data asks."""
    answers = answers_of(teacher)
    if answers is None:
        raise InputError(
            f"{name} has no head that answers for a whole sequence",
            allowed="an S5 or S4D model, or a language model tuned with a head",
            next_step="tune the dense model on the data first, and name what that leaves",
        )
    wanted: dict[str, Any] = {"task": head.task, "outputs": head.outputs, "classes": head.classes}
    for key, value in wanted.items():
        found = getattr(answers, key)
        if found != value:
            raise InputError(f"{name} answers with {key} {found!r}", allowed=f"{value!r}")
