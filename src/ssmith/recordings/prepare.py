"""From a source to rows in splits, with all that is fitted on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssmith.core.errors import DataError, InputError
from ssmith.core.findings import Finding
from ssmith.core.preparation import INTERVAL, Preparation, PrepareConfig, Scaled
from ssmith.core.sequences import SequenceData, shared_rows
from ssmith.core.words import number_of
from ssmith.data.assemble import assemble
from ssmith.data.files import stem_of
from ssmith.data.pool import Pool
from ssmith.data.splitting import draw_splits
from ssmith.recordings.blocks import columns_of, scaled_steps, steps_of, valid_steps
from ssmith.recordings.copies import near_copies
from ssmith.recordings.cut import AHEAD, Spans, chosen_window, cut, labels_of, touched_rows
from ssmith.recordings.fill import filled, marked
from ssmith.recordings.intervals import with_chosen, with_intervals
from ssmith.recordings.new import by_name
from ssmith.recordings.plausible import plausibility
from ssmith.recordings.read import read, read_new
from ssmith.recordings.recording import Labels, Recordings, finding
from ssmith.recordings.splits import DROPPED, rule_of, splits_of
from ssmith.recordings.strange import USUAL_STEP, differences, usual_step
from ssmith.recordings.targets import CLASSES, RowTargets, targets_of

_RECONSTRUCTED = 4096
"""Most numbers of a window that is reconstructed: so many outputs a model has."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Rows in splits, how new ones are made, and what to know of them."""

    data: SequenceData
    preparation: Preparation
    findings: tuple[Finding, ...] = ()


def prepare(
    source: str | Path, config: PrepareConfig, *, classes: Sequence[str] | None = None
) -> Prepared:
    """Read a source, cut it into rows, split them, and scale them by the training rows.

    ``classes`` are in the order of a model's outputs; those that occur, sorted, if None. Raises
    `InputError` if there is no such source, or no task was given where one must be, and `DataError`
    if the source is not what the settings say.
    """
    recordings, config = read(Path(source), config)
    return prepare_recordings(recordings, config, classes=classes)


def prepare_recordings(
    recordings: Recordings, config: PrepareConfig, *, classes: Sequence[str] | None = None
) -> Prepared:
    """Do the same with recordings that were read (see `prepare`)."""
    config = _with_task(recordings, config)
    # Known anomalies are rare, and no label of what is learned.
    labels = None if config.task in AHEAD else recordings.labels
    said = plausibility(marked(replace(recordings, labels=labels), config))
    config = replace(config, channels=recordings.channels)
    recordings = filled(replace(recordings, findings=(*recordings.findings, *said)), config)
    config = with_chosen(recordings, config)
    recordings = with_intervals(recordings, config)
    config = chosen_window(recordings, config)
    config = replace(config, by=rule_of(recordings, config))
    return _made(recordings, config, None, classes)


def prepared_as(
    preparation: Preparation, source: str | Path, *, renew: bool = False
) -> SequenceData:
    """Return a labelled source in splits, cut and scaled as the rows of a model were.

    The same source has the same splits; ``renew``: it may have other labels than the model, which
    are the classes then. Raises `InputError` if there is no such source, `DataError` if a channel
    or the label is missing, or the source is malformed.
    """
    config = preparation.config
    found = by_name(read_new(Path(source), config), preparation)
    if found.labels is None and config.task not in AHEAD:
        raise DataError(
            f"{found.path.name} has no label",
            allowed=f"a column {', '.join(config.label)}",
            next_step="use `ssmith predict` for data without labels",
        )
    classes = preparation.classes or None
    if renew and classes and found.labels is not None:
        seen = {str(label) for item in found.labels for label in item.ravel()}
        classes = classes if seen - {""} <= set(classes) else None
    said = [text for _, text in differences(found, preparation)]
    if said:
        told = (*found.details.get("suspicions", ()), *said)
        found = replace(found, details={**found.details, "suspicions": told})
    found = with_intervals(filled(found, config), config)
    return _made(found, config, preparation, classes).data


def _made(
    recordings: Recordings,
    config: PrepareConfig,
    preparation: Preparation | None,
    classes: Sequence[str] | None,
) -> Prepared:
    """Return rows in splits, scaled as a preparation says, or by one that is fitted on them."""
    rows = cut(recordings, config)
    labels = labels_of(recordings, rows, config)
    if config.task not in AHEAD:
        recordings, rows, labels = _labelled(recordings, rows, labels)
    elif config.reconstructs:
        rows = _full(recordings, rows, config)
    targets = targets_of(recordings, rows, labels, config, classes)
    pool, rows = _split(recordings, rows, targets, config)
    x, lengths = steps_of(recordings, rows)
    preparation = preparation or _fitted(pool, x, recordings, targets, config)
    pool = replace(
        pool,
        x=torch.from_numpy(scaled_steps(x, lengths, preparation)),
        y=_scaled_targets(pool.y, preparation),
        details={**pool.details, "scaling": _scaling(preparation)},
    )
    data = assemble(pool)
    data = replace(data, details={**data.details, "near_copies": near_copies(data.splits)})
    findings = (*recordings.findings, *shared_rows(data))
    return Prepared(data=data, preparation=preparation, findings=findings)


def _with_task(recordings: Recordings, config: PrepareConfig) -> PrepareConfig:
    if config.task is None:
        raise InputError(
            "task is missing",
            allowed="classification, regression, forecasting, anomaly, per-step, multi-label",
            next_step="say what is predicted: --task classification",
        )
    if config.task in AHEAD:
        targets = config.label if config.task == "forecasting" and config.label else ()
        return replace(config, label=targets or recordings.channels)
    if recordings.labels is None:
        raise InputError(
            f"{recordings.path.name}: no column is a label",
            allowed=", ".join(recordings.channels), next_step="name it: --label COLUMN",
        )  # fmt: skip
    if len(recordings.targets) > 1 and config.task in CLASSES:
        raise InputError(
            f"labels {', '.join(recordings.targets)} for {config.task}",
            allowed="one label; several for regression and multi-label",
        )
    return config


def _full(recordings: Recordings, rows: Spans, config: PrepareConfig) -> Spans:
    """Return the rows that are whole windows, which can be reconstructed."""
    size = (config.window or 1) * len(config.label)
    if size > _RECONSTRUCTED:
        raise InputError(
            f"a window of {config.window} steps of {len(config.label)} channels is reconstructed",
            allowed=f"at most {_RECONSTRUCTED} numbers", next_step="shorten it: --window",
        )  # fmt: skip
    full = rows.stop - rows.start == config.window
    if not full.any():
        raise DataError(
            f"{recordings.path.name} has no recording of {config.window} steps",
            next_step="shorten the window: --window",
        )
    return rows.take(np.flatnonzero(full))


def _labelled(
    recordings: Recordings, rows: Spans, labels: Labels | None
) -> tuple[Recordings, Spans, Labels]:
    """Return the rows that have all labels."""
    assert labels is not None
    known = (labels != "").all(1)
    if not known.any():
        raise DataError(
            f"{recordings.path.name}: no row has a label", next_step="check the label's column"
        )
    if known.all():
        return recordings, rows, labels
    said = f"{number_of(int((~known).sum()), 'row')} of {len(known)} without a label left out"
    found = replace(recordings, findings=(*recordings.findings, finding("unlabelled", said)))
    return found, rows.take(np.flatnonzero(known)), labels[known]


def _split(
    recordings: Recordings, rows: Spans, targets: RowTargets, config: PrepareConfig
) -> tuple[Pool, Spans]:
    """Return what is in a split, not yet scaled."""
    strata = [""] * len(rows)
    if targets.classes and config.task in CLASSES:
        strata = [targets.classes[int(item)] for item in targets.y]
    split_of = splits_of(recordings, rows, config, strata)
    pool = _pool(recordings, rows, targets, config)
    if split_of is None:
        pool = draw_splits(pool, seed=config.seed)
        if config.truth is None:
            return pool, rows
        split_of = [*pool.split_of] if pool.split_of else []
    if config.truth is not None:
        # What is learned, and what thresholds are fitted on, is usual.
        touched = touched_rows(recordings, rows)
        split_of = [DROPPED if there and name != "test" else name
                    for there, name in zip(touched, split_of, strict=True)]  # fmt: skip
        lacks = [name for name in ("train", "validation") if name not in split_of]
        if lacks:
            raise DataError(
                f"{recordings.path.name}: every row of {lacks[0]} has a known anomaly",
                allowed=f"usual rows: 0, no or nothing in {config.truth!r}",
                next_step="shorten the window: --window, or name another column: --label",
            )
    kept = np.flatnonzero(np.array(split_of) != DROPPED)
    pool = replace(pool, split_of=tuple(split_of)).keep(torch.from_numpy(kept))
    details = {**pool.details, "split": f"by {config.by}"}
    return replace(pool, details=details), rows.take(kept)


def _pool(recordings: Recordings, rows: Spans, targets: RowTargets, config: PrepareConfig) -> Pool:
    x, lengths = steps_of(recordings, rows)
    whole = targets.classes and config.task != "multi-label"
    return Pool(
        name=stem_of(recordings.path),
        source=f"file {recordings.path.name}",
        task=Preparation(config=config, channels=()).model_task,
        x=torch.from_numpy(x.astype(np.float32)),
        lengths=torch.from_numpy(lengths),
        y=torch.from_numpy(targets.y.astype(np.int64 if whole else np.float32)),
        classes=targets.classes,
        details=dict(recordings.details),
        columns=columns_of(recordings, rows, config),
    )


def _fitted(
    pool: Pool,
    x: NDArray[np.float64],
    recordings: Recordings,
    targets: RowTargets,
    config: PrepareConfig,
) -> Preparation:
    """Return the preparation, fitted on the training rows alone."""
    index = [row for row, name in enumerate(pool.split_of or ()) if name == "train"]
    seen = x[index][valid_steps(pool.lengths.numpy(), x.shape[1])[index]]
    channels = _columns_scaled(seen, recordings.channels, recordings.units, config)
    numbers: tuple[Scaled, ...] = ()
    if targets.names and not targets.classes:
        y = pool.y[index].numpy().astype(np.float64).reshape(len(index), -1)
        units = {name: recordings.units.get(_measured(name, config), "") for name in targets.names}
        numbers = _columns_scaled(y, targets.names, units, config)
    step = usual_step(recordings)
    return Preparation(
        config=config, channels=channels, targets=numbers, classes=targets.classes,
        facts={} if step is None else {USUAL_STEP: step},
    )  # fmt: skip


def _measured(target: str, config: PrepareConfig) -> str:
    """Return the channel that a target is of."""
    return target.rpartition(" ")[0] if config.task in AHEAD else target


def _columns_scaled(
    seen: NDArray[np.float64], names: Sequence[str], units: Any, config: PrepareConfig
) -> tuple[Scaled, ...]:
    found = []
    for place, name in enumerate(names):
        values = seen[:, place]
        if name == INTERVAL:
            # As a multiple of the usual step: a model multiplies its own by it.
            known = values[np.isfinite(values)]
            low, usual, high = map(float, np.quantile(known, (0, 0.5, 1)))
            found.append(Scaled(name=name, low=low, high=high, std=usual or 1.0))
            continue
        low, high = float(values.min()), float(values.max())
        # Equal numbers have a spread of rounding alone.
        plain = config.scale == "none"
        std = float(values.std()) if low < high else 1.0
        found.append(
            Scaled(
                name=name, unit=units.get(name, ""), low=low, high=high,
                mean=0.0 if plain else float(values.mean()), std=1.0 if plain else std or 1.0,
            )
        )  # fmt: skip
    return tuple(found)


def _scaled_targets(y: torch.Tensor, preparation: Preparation) -> torch.Tensor:
    if not preparation.targets:
        return y
    return torch.from_numpy(preparation.targets_scaled(y.numpy().reshape(len(y), -1)))


def _scaling(preparation: Preparation) -> dict[str, Any]:
    return {
        "by": "train, per channel" if preparation.config.scale == "standard" else "none",
        "mean": [item.mean for item in preparation.channels],
        "std": [item.std for item in preparation.channels],
        "targets": {item.name: item.std for item in preparation.targets},
    }
