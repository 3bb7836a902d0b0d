"""The user's data as read from a file, and the checks that turn it into a pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssmith.core.errors import DataError
from ssmith.core.sequences import SPLITS, Task
from ssmith.data.checks import check_finite, check_lengths, check_tokens
from ssmith.data.files import stem_of
from ssmith.data.labels import Targets, encode_labels, real_targets
from ssmith.data.pool import Pool, valid_steps
from ssmith.data.suspicions import suspicions

NAME = "name"
"""Column of what the file calls each sequence."""


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Sequences as a reader found them, not yet checked.

    Args:
        path: the file.
        x: series (float64, three axes) or tokens (int64, two axes), padded on the right.
        lengths: valid steps of each sequence.
        y: labels as strings or integers, or real targets (float64).
        split_of: split name of each sequence, if the file says so.
        vocabulary: number of token ids, for tokens.
        classes: names that integer labels index, if the file says so.
        task: what is predicted, if the file says so.
        names: what the file calls each sequence, for errors.
        columns: what else it says of each sequence, as far as it was asked.
        channels: what the file calls each channel, if it does.
        details: how it was read.
        ignored: key → in how many records it was passed over.
    """

    path: Path
    x: Tensor
    lengths: Tensor
    y: list[str] | list[int] | Tensor
    split_of: list[str] | None = None
    vocabulary: int | None = None
    classes: list[str] | None = None
    task: Task | None = None
    names: list[str] | None = None
    columns: Mapping[str, list[str]] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)


def pool_of(raw: Raw, *, classes: Sequence[str] | None, task: Task | None) -> Pool:
    """Check what a file's reader found and give it the form of the house; padding is 0.

    Classes and task are the file's own where they are not given. Raises `DataError` for any fault
    in the data; the message says where.
    """
    where = raw.path.name
    count = len(raw.x)
    if not count:
        raise DataError(f"{where} has no sequence", next_step="check how the file was written")
    if len(raw.y) != count:
        raise DataError(f"{where}: y has {len(raw.y)} entries", allowed=f"{count}, as x has")
    check_lengths(raw.lengths, count=count, longest=raw.x.shape[1], where=where)
    if raw.x.ndim == 3 and not raw.x.shape[2]:
        raise DataError(f"{where}: x has no channel", allowed="at least one")
    valid = valid_steps(raw.lengths, raw.x.shape[1])
    if raw.vocabulary is None:
        x = raw.x.to(torch.float32)
        check_finite(x, valid, names=raw.names, where=where)
        x = torch.where(valid[..., None], x, torch.zeros_like(x))
    else:
        check_tokens(raw.x, valid, vocabulary=raw.vocabulary, where=where)
        x = torch.where(valid, raw.x, torch.zeros_like(raw.x))
    targets = _targets(raw, classes=classes, task=task or raw.task)
    if targets.task != "classification" and (classes or raw.classes):
        raise DataError(
            f"{where} is for {targets.task}, but classes are given",
            allowed="classes for classification only",
            next_step="leave classes out, or ask for classification",
        )
    return Pool(
        name=stem_of(raw.path),
        source=f"file {where}",
        task=targets.task,
        x=x[:, : int(raw.lengths.max())],
        lengths=raw.lengths,
        y=targets.y,
        classes=targets.classes,
        vocabulary=raw.vocabulary,
        split_of=_checked_splits(raw, count),
        details=_details(raw, x),
        columns=_checked_columns(raw, count),
    )


def _details(raw: Raw, x: Tensor) -> dict[str, Any]:
    """Return how the file was read, and what in it looks like something else than a series."""
    found: dict[str, Any] = dict(raw.details)
    if raw.ignored:
        found["keys_ignored"] = dict(raw.ignored)
    if raw.vocabulary is None:
        found["scaling"] = {"by": "none, as in the file"}
        found["suspicions"] = suspicions(x, raw.lengths, raw.channels)
    return found


def _checked_columns(raw: Raw, count: int) -> dict[str, tuple[str, ...]]:
    names = raw.names or [str(place) for place in range(count)]
    for name, values in raw.columns.items():
        if len(values) != count:
            raise DataError(
                f"{raw.path.name}: {name} has {len(values)} entries", allowed=f"{count}, as x has"
            )
    return {name: tuple(values) for name, values in {NAME: names, **raw.columns}.items()}


def _targets(raw: Raw, *, classes: Sequence[str] | None, task: Task | None) -> Targets:
    where = raw.path.name
    if isinstance(raw.y, Tensor):
        if task != "classification":
            return real_targets(raw.y, task=task, where=where)
        whole = raw.y.ndim == 1 and bool((raw.y == raw.y.round()).all())
        if not whole:
            raise DataError(
                f"{where}: the targets are not whole numbers, so they cannot be classes",
                allowed="strings or integers for classification",
            )
        return encode_labels([int(v) for v in raw.y.tolist()], classes=classes, where=where)
    if task in {"regression", "forecast"}:
        return real_targets(_numbers(raw.y, where), task=task, where=where)
    labels: list[str] | list[int] = raw.y
    if raw.classes is not None:
        labels = _names_of(raw.y, raw.classes, where)
    return encode_labels(labels, classes=classes or raw.classes, where=where)


def _names_of(y: list[str] | list[int], classes: list[str], where: str) -> list[str]:
    names: list[str] = []
    labels: Sequence[str | int] = y
    for i, label in enumerate(labels):
        if isinstance(label, str):
            names.append(label)
        elif 0 <= label < len(classes):
            names.append(classes[label])
        else:
            raise DataError(
                f"{where}: label {label} of sequence {i} is no index into classes",
                allowed=f"0 to {len(classes) - 1}",
            )
    return names


def _numbers(y: list[str] | list[int], where: str) -> Tensor:
    try:
        return torch.tensor([float(label) for label in y], dtype=torch.float64)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"{where}: a target is not a number ({error})", allowed="numbers"
        ) from error


def _checked_splits(raw: Raw, count: int) -> tuple[str, ...] | None:
    if raw.split_of is None:
        return None
    where = raw.path.name
    if len(raw.split_of) != count:
        raise DataError(f"{where}: split has {len(raw.split_of)} entries", allowed=f"{count}")
    for i, name in enumerate(raw.split_of):
        if name not in SPLITS:
            raise DataError(
                f"{where}: sequence {i} is in split {name!r}",
                allowed=", ".join(SPLITS),
                next_step="rename the split, or leave splits out to have them drawn",
            )
    return tuple(raw.split_of)
