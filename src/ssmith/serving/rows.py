"""The rows that a model is asked about: new data, labelled or not, each with a name of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith import data
from ssmith.core.errors import DataError, ModelError
from ssmith.core.findings import Finding
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.core.text import ALL
from ssmith.families import Answers, answers_of, preparation_of
from ssmith.recordings import NewRows, new_rows, parts_of_rows

ROW = "row"
"""Column of the places of rows in a file whose rows have no names."""


@dataclass(frozen=True, kw_only=True)
class AskedRows:
    """Rows as the model reads them, and what to know of them.

    ``labelled`` are those that say what they should be answered, ``told`` whether the source says
    it of any, as far as its columns or folders show; names are of columns that say where each row
    is from.
    """

    rows: Sequences
    labelled: Bool[Tensor, "n"]
    names: Mapping[str, tuple[str, ...]]
    told: bool = True
    findings: tuple[Finding, ...] = ()


def asked_of(model: nn.Module) -> Answers:
    """Return what a model reads and answers; refused where it does not answer sequences."""
    answers = answers_of(model)
    if answers is None:
        raise ModelError(
            f"{type(model).__name__} does not say what it reads and answers",
            allowed="sequence models, and language models with a head; or `sm.rows` and your own "
            "loop",
        )
    return answers


def open_rows(model: nn.Module, source: str | Path) -> AskedRows:
    """Open new data for a model, as its rows were made when it was trained."""
    preparation, answers = preparation_of(model), asked_of(model)
    if preparation is not None:
        made = new_rows(preparation, source)
        return _asked(made, told=made.told)
    found, labelled, findings = _whole(answers, source)
    data.check_fits(
        found, channels=answers.channels, vocabulary=answers.vocabulary, outputs=answers.outputs,
        task=answers.task,
    )  # fmt: skip
    part = found.split(ALL)
    names = {ROW: tuple(map(str, range(len(part))))}
    return AskedRows(
        rows=part, labelled=torch.full((len(part),), labelled), names=names, told=labelled,
        findings=findings,
    )  # fmt: skip


@dataclass(kw_only=True)
class AskedParts:
    """Rows that are asked about, some after the other, of a total of steps, files or rows.

    ``passed`` returns how many of these were read so far, ``findings`` what to know of the rows,
    once all have been passed.
    """

    parts: Iterator[AskedRows]
    total: int
    passed: Callable[[], int]
    findings: Callable[[], tuple[Finding, ...]]


def open_parts(model: nn.Module, source: str | Path, *, rows: int, scratch: Path) -> AskedParts:
    """Open new data as `open_rows` does, without holding it where its kind allows that."""
    preparation = preparation_of(model)
    asked_of(model)
    if preparation is None:
        whole = open_rows(model, source)
        return AskedParts(
            parts=_slices(whole, rows), total=len(whole.rows), passed=lambda: 0,
            findings=lambda: whole.findings,
        )  # fmt: skip
    made = parts_of_rows(preparation, source, rows=rows, scratch=scratch)
    return AskedParts(
        parts=(_asked(part, told=made.told) for part in made.parts), total=made.total,
        passed=lambda: made.passed, findings=lambda: tuple(made.findings),
    )  # fmt: skip


def part_of(asked: AskedRows, index: Tensor) -> AskedRows:
    """Return some of the rows."""
    names = {
        name: tuple(values[place] for place in index.tolist())
        for name, values in asked.names.items()
    }
    return replace(asked, rows=asked.rows.take(index), labelled=asked.labelled[index], names=names)


def _slices(asked: AskedRows, rows: int) -> Iterator[AskedRows]:
    for start in range(0, len(asked.rows), rows):
        yield part_of(asked, torch.arange(start, min(start + rows, len(asked.rows))))


def _asked(made: NewRows, *, told: bool) -> AskedRows:
    return AskedRows(
        rows=made.rows, labelled=made.labelled, names=made.rows.columns, told=told,
        findings=made.findings,
    )  # fmt: skip


def _whole(answers: Answers, source: str | Path) -> tuple[SequenceData, bool, tuple[Finding, ...]]:
    """Return all rows with their labels, or, where these cannot be read, without, and why."""
    load = partial(
        data.load_whole, source, task=answers.task, outputs=answers.outputs,
        classes=answers.classes,
    )  # fmt: skip
    try:
        return load(labelled=True), True, ()
    except DataError as error:
        found = load()
        said = Finding(layer="", kind="unlabelled", message=f"no score: {error.what}")
        return found, False, (said,)
