"""The choice of a method by successive halving: all for a short run, the better half for longer."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ssmith.core.errors import InputError, SsmithError
from ssmith.jobs.tuning.learning import Lesson, learn_
from ssmith.tune.adapters import Auto, Method, attach_, detach_, from_plain
from ssmith.tune.adapters.survey import Survey

_NAME = "trial"
_FIRST = 16
_FEWEST = 12
"""Of 8 and 16 steps a core led that full tuning overtakes by 48."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One short run of one candidate: what it reached, a larger score being better, or why not."""

    method: str
    steps: int
    validation: dict[str, float]
    score: tuple[float, ...]
    failed: str = ""


@dataclass(frozen=True, kw_only=True)
class Election:
    """Which method was chosen, by which trials, whose steps come on top of the run's own."""

    method: str
    trials: tuple[Trial, ...]
    steps: int


def choose(
    model: nn.Module,
    methods: tuple[Method, ...],
    lesson: Lesson,
    checkpoints: Path | None,
) -> tuple[tuple[Method, ...], Election | None]:
    """Put the best candidate in the place of `Auto`, if it is among an adapter's methods.

    Each round gives every candidate a whole run of its own, warm-up and falling rate included: a
    sixteenth of the budget first, at least 12 steps, twice as much for the better half, until one
    is left. Trials compare on the validation split, with the starting rate of each method, and go
    on after a kill where there are checkpoints. The model is as before afterwards. Raises
    `InputError` if no candidate can be trained on it.

    Source: successive halving (arXiv 1502.07943) over methods in place of settings.
    """
    auto = next((method for method in methods if isinstance(method, Auto)), None)
    if auto is None:
        return methods, None
    left = list(auto.names(Survey.of(model)))
    steps, trials = max(_FEWEST, lesson.total_steps() // _FIRST), list[Trial]()
    while len(left) > 1:
        tried = [
            _trial(model, name, _with(methods, name), _short(lesson, name, steps, checkpoints))
            for name in left
        ]
        trials += tried
        able = sorted((t for t in tried if not t.failed), key=lambda t: t.score, reverse=True)
        if not able:
            raise InputError(
                f"none of {', '.join(left)} can be tuned: {tried[0].failed}",
                next_step="name a method, or other candidates",
            )
        left = [trial.method for trial in able[: math.ceil(len(able) / 2)]]
        steps *= 2
    spent = sum(trial.steps for trial in trials)
    return _with(methods, left[0]), Election(method=left[0], trials=tuple(trials), steps=spent)


def _with(methods: tuple[Method, ...], name: str) -> tuple[Method, ...]:
    return tuple(from_plain(name) if isinstance(item, Auto) else item for item in methods)


def _short(lesson: Lesson, name: str, steps: int, checkpoints: Path | None) -> Lesson:
    """Return what a candidate learns in a trial of so many steps."""
    training = dataclasses.replace(
        lesson.training, steps=steps, epochs=None, evaluate_every=steps, patience=None
    )
    file = f"trial-{steps}-" + name.replace(":", "-").replace("+", "-")
    return dataclasses.replace(
        lesson,
        training=training,
        identity={**lesson.identity, "trial": name},
        checkpoint=None if checkpoints is None else checkpoints / f"{file}.safetensors",
        warm_up=None if checkpoints is None else checkpoints / f"{file}-warm-up.safetensors",
        keep_last=True,
    )


def _trial(model: nn.Module, name: str, methods: tuple[Method, ...], lesson: Lesson) -> Trial:
    """Run one candidate; what cannot be attached or diverges has failed."""
    steps, seed = lesson.total_steps(), lesson.training.seed
    try:
        attach_(model, methods, name=_NAME, allow_partial=True, seed=seed)
    except SsmithError as error:
        return Trial(method=name, steps=0, validation={}, score=(), failed=str(error))
    try:
        look = learn_(model, _NAME, lesson)[0].looks[-1]
    except ArithmeticError as error:
        return Trial(method=name, steps=steps, validation={}, score=(), failed=str(error))
    finally:
        detach_(model, _NAME)
    return Trial(method=name, steps=steps, validation=look.validation, score=look.score)
