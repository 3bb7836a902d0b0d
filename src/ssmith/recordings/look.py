"""What a source holds, in numbers: before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssmith.core.findings import Finding
from ssmith.core.preparation import PrepareConfig
from ssmith.core.settings import AsDict
from ssmith.recordings.fill import marked
from ssmith.recordings.plausible import plausibility
from ssmith.recordings.prepare import prepare_recordings
from ssmith.recordings.read import read
from ssmith.recordings.recording import Recordings


@dataclass(frozen=True, kw_only=True)
class ChannelFacts:
    """One channel over all steps; numbers are None where it holds none, gaps steps without one."""

    name: str
    unit: str
    gaps: int
    low: float | None = None
    median: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True, kw_only=True)
class LookAt(AsDict):
    """What a source holds.

    Args:
        source: where it was read.
        recordings: how many.
        steps: of the shortest, the middle and the longest.
        every: time between steps, in the middle; None if there are no times.
        channels: one by one.
        labels: how many recordings, or steps where labels change, have each; of classes.
        labelled: what ``labels`` counts.
        groups: how many there are; None if none are known.
        settings: as they were read, in words.
        window: steps of a row; None for whole recordings, or without a task.
        rows: in each split; empty without a task.
        findings: what to know of it.
    """

    source: str
    recordings: int
    steps: tuple[int, ...]
    every: float | None
    channels: tuple[ChannelFacts, ...]
    labels: dict[str, int]
    labelled: str
    groups: int | None
    settings: dict[str, str]
    window: int | None
    rows: dict[str, int]
    findings: tuple[Finding, ...]


def look_at(source: str | Path, config: PrepareConfig) -> tuple[LookAt, Recordings]:
    """Read a source and describe it; with a task, make its rows as a training would.

    Raises `InputError` if there is no such source, `DataError` if it is not what the settings say.
    """
    found, config = read(Path(source), config)
    seen = marked(found, config)
    rows: dict[str, int] = {}
    findings, window = plausibility(seen), None
    if config.task is not None:
        made = prepare_recordings(found, config)
        rows = {name: len(part) for name, part in made.data.splits.items()}
        findings, window = made.findings, made.preparation.config.window
    labels, labelled = _labels(found)
    lengths = sorted(found.lengths)
    widths = [np.median(np.diff(item)) for item in found.times or () if len(item) > 1]
    look = LookAt(
        source=str(source),
        recordings=len(lengths),
        steps=(lengths[0], lengths[len(lengths) // 2], lengths[-1]),
        every=float(np.median(widths)) if widths else None,
        channels=_channels(seen),
        labels=labels,
        labelled=labelled,
        groups=None if found.groups is None else len(set(found.groups)),
        settings={name: str(value) for name, value in found.details.items() if name != "channels"},
        window=window,
        rows=rows,
        findings=findings,
    )
    return look, found


def _channels(seen: Recordings) -> tuple[ChannelFacts, ...]:
    values = np.concatenate(seen.values)
    found = []
    for place, name in enumerate(seen.channels):
        column = values[:, place]
        known = column[np.isfinite(column)]
        facts = ChannelFacts(
            name=name, unit=seen.units.get(name, ""), gaps=len(column) - len(known)
        )
        if len(known):
            low, median, high = (float(item) for item in np.quantile(known, (0, 0.5, 1)))
            facts = ChannelFacts(
                name=name, unit=facts.unit, gaps=facts.gaps, low=low, median=median, high=high,
                mean=float(known.mean()), std=float(known.std()),
            )  # fmt: skip
        found.append(facts)
    return tuple(found)


def _labels(found: Recordings) -> tuple[dict[str, int], str]:
    if found.labels is None or len(found.targets) != 1:
        return {}, ""
    by_step = found.labelled_by_step()
    counts = Counter[str]()
    for item, values in zip(found.labels, found.values, strict=True):
        if len(item) == 1:
            counts[str(item[0, 0])] += len(values) if by_step else 1
        else:
            counts.update(item[:, 0].tolist())
    if len(counts) > 50:
        return {}, ""
    return dict(sorted(counts.items())), "steps" if by_step else "recordings"
