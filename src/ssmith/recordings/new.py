"""Rows of new data, made as those of the training were made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ssmith.core.layers import Finding
from ssmith.core.preparation import Preparation
from ssmith.core.sequences import Sequences
from ssmith.core.words import number_of
from ssmith.recordings.blocks import columns_of, scaled_steps, steps_of
from ssmith.recordings.cut import AHEAD, Spans, cut, is_number, labels_of, later_values
from ssmith.recordings.fill import filled, place_of
from ssmith.recordings.intervals import with_intervals
from ssmith.recordings.read import read_new
from ssmith.recordings.recording import Labels, Recordings, finding

_MOST = 3
"""Channels out of range that are told one by one."""


@dataclass(frozen=True, kw_only=True)
class NewRows:
    """Rows of new data, as a model reads them.

    Args:
        rows: in the order of recordings and time; `Sequences.columns` says where each is from.
        labelled: which rows say what is to be predicted; the others' targets are 0.
        findings: what to know of them.
    """

    rows: Sequences
    labelled: torch.Tensor
    findings: tuple[Finding, ...] = ()


def new_rows(preparation: Preparation, source: str | Path | Recordings) -> NewRows:
    """Make rows of new data as those of the training were made; labels may be missing.

    Args:
        preparation: of the model.
        source: of the kind it was trained on; or recordings.

    Returns:
        The rows, the last steps of each recording among them.

    Raises:
        InputError: if there is no such source.
        DataError: if a channel is missing, or the source is malformed.
    """
    config = preparation.config
    found = source if isinstance(source, Recordings) else read_new(Path(source), config)
    found = by_name(found, preparation)
    found = with_intervals(filled(found, config), config)
    rows = cut(found, config, to_end=True)
    labels = labels_of(found, rows, config)
    y, labelled = _new_targets(found, rows, labels, preparation)
    x, lengths = steps_of(found, rows)
    made = Sequences(
        x=torch.from_numpy(scaled_steps(x, lengths, preparation)),
        lengths=torch.from_numpy(lengths),
        y=y,
        columns=columns_of(found, rows),
    )
    return NewRows(
        rows=made,
        labelled=labelled,
        findings=(*found.findings, *_beyond(found, preparation)),
    )  # fmt: skip


def by_name(found: Recordings, preparation: Preparation) -> Recordings:
    """Return recordings with the model's channels in its order; others are told."""
    places = preparation.places(found.channels, found.path.name, made=True)
    extra = [name for name in found.channels if name not in preparation.columns]
    said = found.findings
    if extra:
        text = f"{found.path.name} has columns that the model does not read: {', '.join(extra)}"
        said = (*said, finding("unread-columns", text))
    values = tuple(item[:, places] for item in found.values)
    return replace(found, channels=preparation.columns, values=values, findings=said)


def _new_targets(
    found: Recordings, rows: Spans, labels: Labels | None, preparation: Preparation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return targets as the model learns them, and which rows have them."""
    config, count = preparation.config, len(rows)
    outputs = len(preparation.targets or preparation.classes)
    if preparation.model_task == "classification":
        place = {name: index for index, name in enumerate(preparation.classes)}
        given = ["" for _ in range(count)] if labels is None else labels[:, 0].tolist()
        indices = [place.get(name, -1) for name in given]
        y = torch.tensor([max(0, item) for item in indices], dtype=torch.int64)
        return y, torch.tensor([item >= 0 for item in indices])
    if config.task in AHEAD:
        values = later_values(found, rows, config, config.label)
    elif labels is None:
        values = np.full((count, outputs), np.nan)
    else:
        values = np.array([[float(item) if is_number(item) else np.nan for item in row]
                           for row in labels.tolist()])  # fmt: skip
    labelled = np.atleast_1d(np.isfinite(values).all(1))
    scaled = preparation.targets_scaled(values) if preparation.targets else values
    y = torch.from_numpy(np.where(labelled[:, None], scaled, 0).astype(np.float32))
    return y, torch.from_numpy(labelled)


def _beyond(found: Recordings, preparation: Preparation) -> tuple[Finding, ...]:
    """Return a finding for each of the first channels with values far from what training saw."""
    said, others = [], []
    for place, channel in enumerate(preparation.channels):
        bad = [np.flatnonzero(channel.is_beyond(item[:, place])) for item in found.values]
        count = sum(map(len, bad))
        if not count:
            continue
        others.append(channel.name)
        if len(others) > _MOST:
            continue
        recording = next(number for number, steps in enumerate(bad) if len(steps))
        first = place_of(found, recording, int(bad[recording][0]))
        text = (
            f"channel {channel.name!r} is far outside {channel.low:g} to {channel.high:g}"
            f"{' ' * bool(channel.unit)}{channel.unit}, which training saw, at "
            f"{number_of(count, 'step')}, the first {first}"
        )
        said.append(finding("out-of-range", text))
    if len(others) > _MOST:
        text = f"{len(others) - _MOST} more channels as well: {', '.join(others[_MOST:])}"
        said.append(finding("out-of-range", text))
    return tuple(said)
