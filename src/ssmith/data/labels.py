"""Targets: which are classes, which are quantities, and which index a class gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from ssmith.core.errors import DataError, InputError
from ssmith.core.sequences import Task
from ssmith.core.words import number_of

TARGET_KINDS: tuple[Task, ...] = ("classification", "regression", "forecast")


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Targets in the form the house uses: class index (int64) and names, or numbers (float32)."""

    task: Task
    y: Int64[Tensor, "b"] | Float32[Tensor, "b ..."]
    classes: tuple[str, ...] = ()


def encode_labels(
    labels: Sequence[str] | Sequence[int], *, classes: Sequence[str] | None, where: str
) -> Targets:
    """Give every label, a string or an integer, the index of its class.

    By default classes are those that occur, sorted (as numbers if all are integers). Raises
    `InputError` if ``classes`` names one twice, and `DataError` if there is a single class, or a
    label of none.
    """
    names = [str(label) for label in labels]
    order = _order(names) if classes is None else [str(name) for name in classes]
    if len(set(order)) < len(order):
        raise InputError(f"classes are {', '.join(order)}", allowed="each class once")
    if len(order) < 2:
        raise DataError(
            f"{where} has a single class: {', '.join(order) or 'none'}",
            allowed="at least two classes",
            next_step="check the label column",
        )
    index = {name: i for i, name in enumerate(order)}
    unknown = sorted(set(names) - set(index))
    if unknown:
        raise DataError(
            f"{where} has {number_of(len(unknown), 'unknown label')}, the first is {unknown[0]!r} "
            f"at sequence {names.index(unknown[0])}",
            allowed=", ".join(order[:20]),
            next_step="relabel these sequences or name all classes",
        )
    y = torch.tensor([index[name] for name in names], dtype=torch.int64)
    return Targets(task="classification", y=y, classes=tuple(order))


def real_targets(y: Tensor, *, task: Task | None, where: str) -> Targets:
    """Take real numbers as targets."""
    values = y.to(torch.float32)
    bad = ~values.isfinite().reshape(len(values), -1).all(dim=1)
    if bool(bad.any()):
        raise DataError(
            f"{where}: {number_of(int(bad.sum()), 'target')} not finite in float32, the first at "
            f"sequence {int(bad.nonzero()[0])}",
            allowed="finite numbers",
            next_step="drop or repair these sequences",
        )
    return Targets(task=task or "regression", y=values)


def check_task(task: str | None) -> None:
    """Refuse a task that does not exist."""
    if task is not None and task not in TARGET_KINDS:
        raise InputError(f"task {task!r}", allowed=", ".join(TARGET_KINDS))


def _order(names: list[str]) -> list[str]:
    present = set(names)
    try:
        return sorted(present, key=int)
    except ValueError:
        return sorted(present)
