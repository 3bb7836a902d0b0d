"""All rows of the user's file in its order, with or without labels: what comes in, day by day."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ssmith.core.sequences import SequenceData, Sequences, Task
from ssmith.core.text import ALL
from ssmith.data.embedded import PREFIX, load_embedded
from ssmith.data.files import suffix_of
from ssmith.data.load import reader_of
from ssmith.data.raw import pool_of
from ssmith.data.ts_file import TS


def load_whole(
    spec: str | Path,
    *,
    task: Task,
    outputs: int,
    classes: tuple[str, ...] = (),
    labelled: bool = False,
) -> SequenceData:
    """Load all rows of a file as one split ``all``; of ``embedded:NAME`` those of the test split.

    ``outputs`` are numbers that a model returns; without ``labelled`` labels may be missing, and
    all are 0. Raises `InputError` if there is no such file or kind of file, `DataError` if it
    cannot be read, `MissingExtraError` without the package that holds a named set.
    """
    if str(spec).startswith(PREFIX):
        found = load_embedded(str(spec).removeprefix(PREFIX), seed=0)
        return SequenceData(
            name=found.name, task=found.task, splits={ALL: found.split("test")},
            classes=found.classes, vocabulary=found.vocabulary,
        )  # fmt: skip
    path = Path(spec)
    # A .ts file always has targets.
    asked = {} if suffix_of(path) == TS else {"labelled": labelled}
    raw = reader_of(path)(path, (), **asked)
    if labelled:
        pool = pool_of(raw, classes=classes or None, task=task)
        part, y = pool.sequences(), pool.y
    else:
        nothing = torch.zeros(len(raw.x), dtype=torch.float64)
        raw = replace(raw, y=nothing, classes=None, task=None)
        pool = pool_of(raw, classes=None, task="regression")
        part, y = pool.sequences(), torch.zeros(len(pool), outputs)
        if task == "classification":
            y = torch.zeros(len(pool), dtype=torch.int64)
    return SequenceData(
        name=pool.name, task=task, splits={ALL: Sequences(x=part.x, lengths=part.lengths, y=y)},
        classes=pool.classes if labelled else classes or ("",) * outputs,
        vocabulary=pool.vocabulary,
    )  # fmt: skip
