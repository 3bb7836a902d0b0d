"""Recover a cut model in place: distilled from its dense parent, it keeps what it learned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ssmith.artefact import base_digest
from ssmith.core.checks import check_integer, check_number
from ssmith.core.errors import NumericalError
from ssmith.core.progress import Progress, silent
from ssmith.core.sections import Rate
from ssmith.core.sequences import SequenceData
from ssmith.core.settings import AsDict, to_mapping
from ssmith.core.tokens import TokenWindows
from ssmith.families import SequenceModel
from ssmith.families.hf import engine
from ssmith.families.registry import mixers
from ssmith.jobs.tuning.choice import Election, choose
from ssmith.jobs.tuning.learning import Lesson, learn_
from ssmith.jobs.tuning.training_set import TrainingSet, window_rows
from ssmith.tune import adapters
from ssmith.tune.adapters import Auto, Method, StateOffset
from ssmith.tune.adapters.merge import check_mergeable
from ssmith.tune.adapters.survey import Survey
from ssmith.tune.training import (
    AnswerObjective,
    LanguageObjective,
    Training,
    TrainingConfig,
    rows_of,
)

_NAME = "recovery"
_SHARES = (1.0, 1 / 8, 1 / 64)
"""Of the starting rates, one after the other until one helps: what a small cut lost is little, and
rates that were measured on new tasks then do more harm than good (benchmarks/recovery.py)."""


@dataclass(frozen=True, kw_only=True)
class RecoveryConfig:
    """How a cut model learns to make up for the cut.

    Args:
        methods: names of adapters between commas, as in ``ssmith tune --method``; what they train
            is written into the model in the end.
        steps: optimiser steps, ≥ 1.
        rate: learning rate of everything; None for the starting rate of each method, or an eighth
            or a 64th of it where higher ones do not help.
        distill_weight: share of the dense model in the loss, in [0, 1]; the rest is the text.
        batch_size: windows per step, ≥ 1.
        seed: of order and initial values.

    Raises:
        InputError: if a value is outside its domain, or a method is unknown.
    """

    methods: str = "state-offset-hy"
    steps: int = 200
    rate: float | None = None
    distill_weight: float = 1.0
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, at_least=1)
        check_number("distill_weight", self.distill_weight, at_least=0, below=1 + 1e-9)
        if self.rate is not None:
            check_number("rate", self.rate, above=0)
        self.chosen()

    def chosen(self) -> tuple[Method, ...]:
        """Return the methods."""
        return adapters.methods_of(self.methods)

    def terms(self) -> str:
        """Return the letters of the terms that have a closed form: D, and offsets that train."""
        forms = {method.form for method in self.chosen() if isinstance(method, StateOffset)}
        named = (("h", {"h", "both"}), ("y", {"y", "both"}))
        return "D" + "".join(letter for letter, wanted in named if forms & wanted)

    def training(self) -> TrainingConfig:
        """Return the settings of the training."""
        return TrainingConfig(
            rate=self.rate, steps=self.steps, batch_size=self.batch_size, seed=self.seed
        )


@dataclass(frozen=True, kw_only=True)
class Recovered(AsDict):
    """What a recovery did.

    ``shares`` of the starting rates were tried, of which the last tells ``rates`` and ``steps``;
    ``best_step`` validated best, 0 for the cut model as it was; ``validation`` are means before the
    first step and at the best one; base parameters were ``merged``, and offsets are ``held`` by the
    model now.
    """

    methods: tuple[str, ...]
    choice: Election | None
    parameters: int
    rates: dict[str, Rate]
    shares: tuple[float, ...]
    steps: int
    best_step: int
    validation: dict[str, dict[str, float]]
    merged: tuple[str, ...]
    held: tuple[str, ...]


def check_recovery(model: nn.Module, config: RecoveryConfig) -> None:
    """Raise unless a model can be recovered like this and hold the result; it stays as it is."""
    methods = config.chosen()
    auto = [method for method in methods if isinstance(method, Auto)]
    named = [method for method in methods if not isinstance(method, Auto)]
    named += [adapters.from_plain(name) for one in auto for name in one.names(Survey.of(model))]
    for method in named:
        adapters.attach_(model, method, name=_NAME, prove=False, allow_partial=True)
        try:
            check_mergeable(model, _NAME, hold=True)
        finally:
            adapters.detach_(model, _NAME)


def from_windows(
    dense: nn.Module, splits: tuple[TokenWindows, TokenWindows], config: RecoveryConfig
) -> TrainingSet:
    """Return what a cut language model learns from windows of two splits."""
    train, validation = splits
    return TrainingSet(
        objective=LanguageObjective(
            teacher=dense if config.distill_weight else None, distill_weight=config.distill_weight
        ),
        rows={"train": window_rows(train), "validation": window_rows(validation)},
        sha256=train.sha256,
    )


def from_sequences(dense: SequenceModel, data: SequenceData, config: RecoveryConfig) -> TrainingSet:
    """Return what a cut sequence model learns from a data set's training split."""
    return TrainingSet(
        objective=AnswerObjective(
            task=dense.config.task,
            teacher=dense if config.distill_weight else None,
            distill_weight=config.distill_weight,
        ),
        rows={name: rows_of(data.split(name)) for name in ("train", "validation")},
        sha256=data.sha256,
    )


def recover_(
    model: nn.Module,
    dense: nn.Module,
    data: TrainingSet,
    config: RecoveryConfig,
    *,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> Recovered:
    """Train an adapter on a cut model, and write it into the model; what is cut stays cut.

    Of all looks at the validation split the best is taken, the model as it was before the first
    step included. Called again with the same ``checkpoint`` it goes on where it was.
    """
    digest = base_digest(model)
    kept = None if checkpoint is None else checkpoint.with_suffix("")
    lesson = Lesson(
        data=data,
        training=config.training(),
        identity={"base": digest, "settings": to_mapping(config)},
        checkpoint=checkpoint,
        warm_up=None if kept is None else kept / "warm-up.safetensors",
        progress=progress,
    )
    with _as_teacher(dense):
        methods, choice = choose(model, config.chosen(), lesson, kept)
        shares = _SHARES if config.rate is None else _SHARES[:1]
        report, training, rates, tried = _helped(model, methods, lesson, shares)
    report = adapters.recounted(model, report)
    done = adapters.merge_(model, _NAME, hold=True)
    looks = {look.step: look.validation for look in training.looks}
    return Recovered(
        methods=report.methods,
        choice=choice,
        parameters=report.parameters,
        rates=rates,
        shares=shares[:tried],
        steps=training.steps,
        best_step=training.best_step,
        validation={"before": looks.get(0, {}), "after": looks.get(training.best_step, {})},
        merged=done.merged,
        held=done.held,
    )


def _helped(
    model: nn.Module, methods: tuple[Method, ...], lesson: Lesson, shares: tuple[float, ...]
) -> tuple[adapters.AttachReport, Training, dict[str, Rate], int]:
    """Learn at a share of the starting rates after the other until one helps, or all were tried.

    The last adapter stays attached; how many shares were tried is returned as well.
    """
    for tried, share in enumerate(shares, 1):
        report = adapters.attach_(model, methods, name=_NAME, seed=lesson.training.seed)
        check_mergeable(model, _NAME, hold=True)
        try:
            training, rates = learn_(model, _NAME, lesson.at(share))
        except NumericalError:
            if tried == len(shares):
                raise
        else:
            if training.best_step or tried == len(shares):
                break
        adapters.detach_(model, _NAME)
    return report, training, rates, tried


@contextmanager
def _as_teacher(dense: nn.Module) -> Iterator[None]:
    """Run the dense model on the engine where it has one; give its parameters back as they were."""
    trained = {name for name, item in dense.named_parameters() if item.requires_grad}
    dense.requires_grad_(requires_grad=False)
    try:
        with engine(dense) if mixers(dense)[0] else nullcontext():
            yield
    finally:
        for name, item in dense.named_parameters():
            item.requires_grad_(name in trained)
