"""What rows predict: classes, numbers, or later values of their own recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings.cut import AHEAD, Spans, is_number, later_values
from ssmith.recordings.recording import Labels, Recordings, place_of

CLASSES = ("classification", "per-step")
"""Tasks of which each row has one class."""


@dataclass(frozen=True, kw_only=True)
class RowTargets:
    """What rows predict: indices of classes, or numbers in their own units."""

    y: NDArray[Any]
    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def targets_of(
    recordings: Recordings,
    rows: Spans,
    labels: Labels | None,
    config: PrepareConfig,
    classes: Sequence[str] | None,
) -> RowTargets:
    """Return the targets of rows; without labels those that lie ahead."""
    if config.task in AHEAD:
        names = tuple(f"{name} {ahead:+d}" for ahead in config.offsets for name in config.label)
        return RowTargets(y=later_values(recordings, rows, config, config.label), names=names)
    assert labels is not None
    if config.task in CLASSES:
        return _classes(recordings, labels[:, 0], classes)
    if config.task == "multi-label":
        return RowTargets(
            y=_numbers(recordings, rows, labels), names=recordings.targets,
            classes=recordings.targets,
        )  # fmt: skip
    return RowTargets(y=_numbers(recordings, rows, labels), names=recordings.targets)


def _classes(
    recordings: Recordings, labels: NDArray[Any], classes: Sequence[str] | None
) -> RowTargets:
    names = _sorted(set(labels.tolist())) if classes is None else list(classes)
    unknown = sorted(set(labels.tolist()) - set(names))
    if unknown or len(names) < 2:
        raise DataError(
            f"{recordings.path.name} has "
            + (f"label {unknown[0]!r}" if unknown else f"a single class: {', '.join(names)}"),
            allowed=", ".join(names[:20]) if unknown else "at least two classes",
            next_step="check the label's column",
        )
    place = {name: index for index, name in enumerate(names)}
    return RowTargets(y=np.array([place[name] for name in labels.tolist()]), classes=tuple(names))


def _sorted(names: set[str]) -> list[str]:
    try:
        return sorted(names, key=float)
    except ValueError:
        return sorted(names)


def _numbers(recordings: Recordings, rows: Spans, labels: Labels) -> NDArray[np.float64]:
    try:
        found = labels.astype(np.float64)
        bad = ~np.isfinite(found).all(1)
    except ValueError:
        bad = np.array([not all(map(is_number, row)) for row in labels.tolist()])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        where = place_of(recordings, int(rows.recording[row]), int(rows.stop[row]) - 1)
        raise DataError(
            f"{recordings.path.name}, {where}: the target is {', '.join(labels[row])}",
            allowed="numbers; words are for classification",
            next_step="correct it, or ask for --task classification",
        )
    return np.asarray(found)
