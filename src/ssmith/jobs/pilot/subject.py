"""What a pilot is about: a model, its rows by split, and the task it is judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from ssmith import families
from ssmith.artefact import locate
from ssmith.core.errors import InputError
from ssmith.core.rows import Rows
from ssmith.core.sections import DataSection, ModelSection
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.core.text import Text
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation import Task, task_of
from ssmith.families import answers_of, model_digest
from ssmith.jobs.merge import whole
from ssmith.jobs.pilot.config import PilotConfig
from ssmith.jobs.source import Source, open_source, reads_text

Data = str | SequenceData | Text | Mapping[str, Any]
"""Where rows are found; or the rows themselves, by split: calibration, selection and test."""


@dataclass(frozen=True)
class Subject:
    """What a pilot is about.

    The place is the model's directory, None of a network in memory; ``own_task`` says what good
    means, the usual one if None; ``digest`` is of what was loaded, the model's own if empty: an
    adapter is merged into its base.
    """

    name: str
    model: nn.Module
    place: Path | None
    source: Source
    config: PilotConfig
    own_task: Task | None
    digest: str = ""

    @cached_property
    def selection(self) -> Rows:
        """The rows on which the cut is chosen."""
        return self.source.rows("selection", self.config.rows("selection"))

    @cached_property
    def test(self) -> Rows:
        """The rows on which it is judged; nothing before that looks at them."""
        return self.source.rows("test", self.config.rows("test"))

    @cached_property
    def task(self) -> Task:
        """What good means."""
        return task_of(self.model, self.selection, self.own_task or self.config.metric)

    @property
    def reads_text(self) -> bool:
        """Whether it is a language model on windows of text."""
        return isinstance(self.selection, TokenWindows)

    @property
    def reads_sequences(self) -> bool:
        """Whether it answers for whole sequences."""
        return isinstance(self.selection, Sequences)

    @property
    def can_calibrate(self) -> bool:
        """Whether there are rows that methods can be fitted to."""
        data = self.source.data
        if isinstance(data, Text):
            return True
        if isinstance(data, SequenceData):
            return bool(len(data.splits.get("train", ())))
        return "calibration" in data

    @property
    def doing(self) -> str:
        """What the model does, in words."""
        answers = answers_of(self.model)
        if answers is not None:
            return answers.task
        return "language modelling" if self.reads_text else self.task.metric.name

    def about(self) -> ModelSection:
        """Return the model section of the receipt, before the cut."""
        layers = families.describe(self.model)
        return ModelSection(
            name=self.name,
            family=", ".join(sorted({layer.family for layer in layers})),
            task=self.doing,
            layers=len(layers),
            digest_before=self.digest or model_digest(self.model),
        )

    def rows(self, calibration: Rows | None) -> DataSection:
        """Return the data section of the receipt."""
        data = self.source.describe(self.test)
        if isinstance(self.source.data, SequenceData):
            return data
        return replace(
            data,
            selection=self.selection.describe(),
            calibration=None if calibration is None else calibration.describe(),
        )


def open_subject(
    model: str | nn.Module, data: Data, config: PilotConfig, task: Task | None, name: str
) -> Subject:
    """Open a model and its rows."""
    if isinstance(model, nn.Module):
        if isinstance(data, str):
            raise InputError(
                f"data is {data!r} for a network in memory",
                allowed="its rows by split: {'calibration': …, 'selection': …, 'test': …}",
                next_step="load it with ssmith.load_data, or give a DataLoader for each split",
            )
        known = name or type(model).__name__
        return Subject(known, model, None, Source(data=data), config, task)
    if not isinstance(data, str):
        made = whole(model)
        rows = Source(data=data)
        return Subject(model, made.model, locate(model), rows, config, task, made.digest)
    text = reads_text(model)
    config.check_kind(text=text, sequences=not text)
    made = whole(model)
    recovers = config.recover is not None
    needs = ("train", "validation") * recovers + ("selection", "test")
    source = open_source(made.model, model, data, config.field, needs=needs)
    return Subject(model, made.model, locate(model), source, config, task, made.digest)
