"""The rows that a model is asked about: new data, labelled or not, each with a name of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith import data
from ssmith.core.errors import DataError, ModelError
from ssmith.core.layers import Finding
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.core.text import ALL
from ssmith.families import Answers, answers_of, preparation_of
from ssmith.recordings import new_rows

ROW = "row"
"""Column of the places of rows in a file whose rows have no names."""


@dataclass(frozen=True, kw_only=True)
class AskedRows:
    """Rows, and what to know of them.

    Args:
        rows: as the model reads them.
        labelled: which of them say what they should be answered.
        names: columns that say where each row is from.
        findings: gaps, values out of range, columns that are not read.
    """

    rows: Sequences
    labelled: Bool[Tensor, "n"]
    names: Mapping[str, tuple[str, ...]]
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
        return AskedRows(
            rows=made.rows, labelled=made.labelled, names=made.rows.columns, findings=made.findings
        )
    found, labelled, findings = _whole(answers, source)
    data.check_fits(
        found, channels=answers.channels, vocabulary=answers.vocabulary, outputs=answers.outputs,
        task=answers.task,
    )  # fmt: skip
    part = found.split(ALL)
    names = {ROW: tuple(map(str, range(len(part))))}
    return AskedRows(
        rows=part, labelled=torch.full((len(part),), labelled), names=names, findings=findings
    )


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
