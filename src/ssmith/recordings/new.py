"""Rows of new data, made as those of the training were made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path

import numpy as np
import torch

from ssmith.core.findings import Finding
from ssmith.core.preparation import Preparation
from ssmith.core.sequences import Sequences
from ssmith.recordings.blocks import columns_of, scaled_steps, steps_of
from ssmith.recordings.cut import AHEAD, Spans, cut, is_number, labels_of, later_values
from ssmith.recordings.fill import filled
from ssmith.recordings.intervals import with_intervals
from ssmith.recordings.read import read_new
from ssmith.recordings.recording import Labels, Recordings, finding
from ssmith.recordings.strange import differences
from ssmith.recordings.tally import Tally, beyond, beyond_found


@dataclass(frozen=True, kw_only=True)
class NewRows:
    """Rows of new data, as a model reads them, in the order of recordings and time.

    ``labelled`` are those that say what is to be predicted, the others' targets are 0; ``told`` is
    whether the source says it of any row, as far as its columns or folders show.
    """

    rows: Sequences
    labelled: torch.Tensor
    told: bool = True
    findings: tuple[Finding, ...] = ()


def new_rows(preparation: Preparation, source: str | Path | Recordings) -> NewRows:
    """Make rows of new data as those of the training were made; labels may be missing.

    The last steps of each recording are among them. Raises `InputError` if there is no such source,
    `DataError` if a channel is missing, or the source is malformed.
    """
    config = preparation.config
    found = source if isinstance(source, Recordings) else read_new(Path(source), config)
    found, far = by_name(found, preparation), Tally()
    found = with_intervals(filled(found, config), config)
    far.add(found, beyond(found, preparation))
    said = (*found.findings, *beyond_found(preparation, far))
    return replace(
        rows_in(found, cut(found, config, to_end=True), preparation),
        told=found.labels is not None or config.task in AHEAD, findings=said,
    )  # fmt: skip


def rows_in(found: Recordings, rows: Spans, preparation: Preparation) -> NewRows:
    """Return rows of recordings without gaps, scaled, with what they predict."""
    labels = labels_of(found, rows, preparation.config)
    y, labelled = _new_targets(found, rows, labels, preparation)
    x, lengths = steps_of(found, rows)
    made = Sequences(
        x=torch.from_numpy(scaled_steps(x, lengths, preparation)),
        lengths=torch.from_numpy(lengths),
        y=y,
        columns=columns_of(found, rows, preparation.config),
    )
    return NewRows(rows=made, labelled=labelled)


def by_name(found: Recordings, preparation: Preparation) -> Recordings:
    """Return recordings with the model's channels in its order; others are told."""
    places = preparation.places(found.channels, found.path.name, made=True)
    extra = [name for name in found.channels if name not in preparation.columns]
    said = (*found.findings, *starmap(finding, differences(found, preparation)))
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
