"""What a model learns, and from what: any data, brought into rows for one objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import api
from ssmith.core.errors import DataError, InputError, UnsupportedError
from ssmith.core.examples import Example
from ssmith.core.findings import Finding
from ssmith.core.sections import DataSection
from ssmith.core.sequences import SequenceData, Task, shared_rows
from ssmith.core.text import Text
from ssmith.core.tokenizer import Tokenizer
from ssmith.core.tokens import TokenWindows
from ssmith.data import find_tokenizer, is_series, keys_of, load_data, load_examples
from ssmith.families import (
    SequenceModel,
    TaskModel,
    answers_of,
    directory_of,
    preparation_of,
    vocabulary_of,
)
from ssmith.families.heads import HeadConfig
from ssmith.families.hf import accelerate_
from ssmith.families.registry import mixers
from ssmith.jobs.tuning.config import TuneConfig
from ssmith.recordings import prepared_as
from ssmith.tune.training import AnswerObjective, LanguageObjective, Objective, rows_of


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Rows to learn from, and what is learned of them.

    A teacher is in the objective; rows are by split, at least train and validation; the head is
    what is predicted for a whole sequence, None for the next token. Findings are on rows that are
    in several splits.
    """

    objective: Objective
    rows: Mapping[str, Sequence[Any]]
    sha256: str
    head: HeadConfig | None = None
    about: DataSection = field(default_factory=DataSection)
    tokenizer: Tokenizer | None = None
    findings: tuple[Finding, ...] = ()


def training_set(model: nn.Module, config: TuneConfig) -> TrainingSet:
    """Load the data of a tuning job as rows for a model, and the teacher if there is one."""
    prepared = preparation_of(model)
    kind = "recordings" if prepared else _kind(config.data)
    if prepared is not None:
        # Cut and scaled as the rows that the model has learned; labels may be others.
        found = _from_series(prepared_as(prepared, config.data, renew=True), config)
    elif kind == "series":
        seed = config.examples.seed
        found = _from_series(
            load_data(config.data, seed=seed, needs=("train", "validation")), config
        )
    elif isinstance(model, SequenceModel | TaskModel):
        raise UnsupportedError(
            f"{config.data} is text, and the model is a sequence model of series or token ids",
            allowed="embedded:NAME, or series in .npz, .csv, .ts, .jsonl or .parquet",
            next_step="write series into one of these, or tune a language model on the text",
        )
    elif kind == "examples":
        found = _from_examples(model, config)
    else:
        text = api.load_text(config.data, model, seed=config.examples.seed)
        found = _from_text(model, text, config)
    for name in ("train", "validation"):
        if not found.rows.get(name):
            raise DataError(
                f"{config.data} has nothing in split {name!r}",
                allowed="train and validation",
                next_step="name these splits in the file, or leave splits out to have them drawn",
            )
    return found


def _kind(spec: str) -> str:
    """Return whether data is series, examples or plain text."""
    path = Path(spec)
    if spec.startswith("embedded:"):
        return "series"
    keys = keys_of(path)
    if keys is None:
        return "text"
    return "series" if is_series(keys) else "examples"


def _from_series(data: SequenceData, config: TuneConfig) -> TrainingSet:
    part = data.split("train")
    targets = part.y[0].numel()
    head = HeadConfig(
        task=data.task,
        outputs=len(data.classes) if data.task == "classification" else targets,
        classes=data.classes,
        channels=None if data.vocabulary is not None else part.x.shape[2],
        pooling=config.pooling,
    )
    rows = {name: config.examples.used(name, rows_of(one)) for name, one in data.splits.items()}
    return TrainingSet(
        objective=_answers(head, config),
        rows=rows,
        head=head,
        about=data.describe(),
        sha256=data.sha256,
        findings=shared_rows(data),
    )


def _from_examples(model: nn.Module, config: TuneConfig) -> TrainingSet:
    vocabulary = vocabulary_of(model)
    if vocabulary is None:
        raise UnsupportedError(f"{type(model).__name__} reads no text", allowed="language models")
    tokenizer = find_tokenizer(directory_of(model), vocabulary)
    data = load_examples(config.data, tokenizer, config.examples)
    head = None
    if data.task != "language":
        task: Task = "classification" if data.task == "classification" else "regression"
        outputs = len(data.classes) if data.classes else 1
        head = HeadConfig(task=task, outputs=outputs, classes=data.classes, pooling=config.pooling)
    return TrainingSet(
        objective=_tokens(model, config) if head is None else _answers(head, config),
        rows=dict(data.splits),
        head=head,
        about=data.describe(),
        sha256=data.sha256,
        tokenizer=tokenizer,
        findings=shared_rows(data),
    )


def _from_text(model: nn.Module, text: Text, config: TuneConfig) -> TrainingSet:
    rows: dict[str, Sequence[Any]] = {}
    for name in ("train", "validation", "test"):
        windows = text.windows(config.examples.length, split=name)
        rows[name] = config.examples.used(name, window_rows(windows))
    counts = {name: len(part) for name, part in rows.items()}
    about = DataSection(
        name=text.name,
        sha256=text.sha256,
        source=text.source,
        counts=counts,
        details={**text.details, "row_length": config.examples.length},
    )
    objective = _tokens(model, config)
    return TrainingSet(objective=objective, rows=rows, about=about, sha256=text.sha256)


def window_rows(windows: TokenWindows) -> list[Example]:
    """Return windows as rows without their padding, all of which is learned."""
    begins = windows.scored_from.tolist()
    rows = zip(windows.ids, windows.lengths.tolist(), begins, strict=True)
    return [Example(ids=ids[:length], start=start) for ids, length, start in rows if length > 1]


def _tokens(model: nn.Module, config: TuneConfig) -> Objective:
    """Return what a language model learns of texts."""
    if config.teacher is None:
        return LanguageObjective()
    teacher = api.load(config.teacher)
    if vocabulary_of(teacher) != vocabulary_of(model):
        raise InputError(
            f"{config.teacher} has {vocabulary_of(teacher)} token ids",
            allowed=f"{vocabulary_of(model)}, as the model has",
        )
    return LanguageObjective(teacher=_ready(teacher, config), distill_weight=config.distill_weight)


def _answers(head: HeadConfig, config: TuneConfig) -> Objective:
    """Return what a model learns to answer for whole sequences."""
    if config.teacher is None:
        return AnswerObjective(task=head.task)
    teacher = api.load(config.teacher)
    answers = answers_of(teacher)
    if answers is None:
        raise InputError(
            f"{config.teacher} has no head that answers for a whole sequence",
            allowed="an S5 or S4D model, or a language model tuned with a head",
            next_step="tune the dense model on the data first, and name what that leaves",
        )
    wanted: dict[str, Any] = {"task": head.task, "outputs": head.outputs, "classes": head.classes}
    for key, value in wanted.items():
        found = getattr(answers, key)
        if found != value:
            raise InputError(f"{config.teacher} answers with {key} {found!r}", allowed=f"{value!r}")
    return AnswerObjective(
        task=head.task,
        teacher=_ready(teacher, config),
        distill_weight=config.distill_weight,
    )


def _ready(teacher: nn.Module, config: TuneConfig) -> nn.Module:
    if mixers(teacher)[0]:
        accelerate_(teacher)
    return teacher.to(config.training.device)
