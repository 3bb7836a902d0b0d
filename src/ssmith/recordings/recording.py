"""Recordings as they were read: long series, not yet filled, cut or scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.findings import Finding

Labels = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """Long series of the same channels.

    Args:
        path: where they were read from.
        names: of each recording.
        channels: names of the columns of ``values``.
        values: of each recording, one row a step; NaN where there is a gap.
        units: of channels, as far as the source says.
        times: of each step: seconds since 1970, or numbers as the source has them; None if unknown.
        rows: number of each step's row in the source, as people count; None if it has none.
        labels: of each recording, one row for all its steps or one for each, a column for each of
            ``targets``; empty texts where unknown. None if the source has none.
        targets: names of what is labelled.
        groups: what must not be in two splits, of each recording.
        splits: of each recording, as the source says.
        offset: steps before the first of ``values``, where they are a part of one recording.
        details: how they were read, JSON-ready.
        findings: what to know of them.
    """

    path: Path
    names: tuple[str, ...]
    channels: tuple[str, ...]
    values: tuple[NDArray[np.float64], ...]
    units: Mapping[str, str] = field(default_factory=dict)
    times: tuple[NDArray[np.float64], ...] | None = None
    rows: tuple[NDArray[np.int64], ...] | None = None
    labels: tuple[Labels, ...] | None = None
    targets: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None
    offset: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def lengths(self) -> list[int]:
        """Steps of each recording."""
        return [len(item) for item in self.values]

    def labelled_by_step(self) -> bool:
        """Return whether any recording changes its label on the way."""
        return self.labels is not None and any(
            len(item) > 1 and bool((item != item[0]).any()) for item in self.labels
        )


def finding(kind: str, message: str) -> Finding:
    """Return a finding on data, which is of no layer."""
    return Finding(layer="", kind=kind, message=message)


def place_of(recordings: Recordings, recording: int, step: int) -> str:
    """Return what a step is called in findings."""
    name = recordings.names[recording]
    said = f"{name!r}, step {step + recordings.offset}"
    if recordings.rows is None:
        return said
    return f"{said} (row {int(recordings.rows[recording][step])})"
