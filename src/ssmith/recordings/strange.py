"""What new data has otherwise than that of the training, though all its channels are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ssmith.core.names import meant
from ssmith.core.preparation import Preparation, PrepareConfig
from ssmith.recordings.cut import AHEAD
from ssmith.recordings.intervals import widths_of
from ssmith.recordings.recording import Recordings

USUAL_STEP = "usual_step"
"""Fact of a preparation: how long a step lasted in training, in the units of its times."""
KINDS = ("other-units", "other-steps", "lower-rate", "unknown-labels")
"""What is found of a source part by part, and told once."""
_OTHER, _ALIKE, _SHOWN = 1.5, 0.8, 3


def differences(found: Recordings, preparation: Preparation) -> Iterator[tuple[str, str]]:
    """Yield the kind and the words of each: units, steps, rates of sound, and labels."""
    yield from _of_units(found, preparation)
    yield from _of_steps(found, preparation)
    yield from _of_rates(found)
    yield from _of_labels(found, preparation)


def unnamed(columns: Sequence[str], config: PrepareConfig, where: str) -> Iterator[tuple[str, str]]:
    """Yield a column that may be the label, which is not there by its own name."""
    if config.task in AHEAD or set(config.labels) & set(columns):
        return
    others = [name for name in columns if name not in (*config.channels, *config.plain_columns())]
    for label in config.labels:
        question = meant(label, others, cutoff=_ALIKE)
        if question:
            said = f"{where} has no column {label!r}, and nothing is scored"
            yield "label-missing", f"{said}; {question}"


def usual_step(recordings: Recordings) -> float | None:
    """Return how long most steps lasted; None where nothing says so."""
    widths = widths_of(recordings)
    return float(np.median(widths)) if len(widths) else None


def _of_units(found: Recordings, preparation: Preparation) -> Iterator[tuple[str, str]]:
    others = [
        f"{channel.name} in {unit}, not {channel.unit}"
        for channel in preparation.channels
        if (unit := found.units.get(channel.name, "")) and channel.unit not in ("", unit)
    ]
    if others:
        text = f"channels are in other units than in training ({', '.join(others)})"
        yield "other-units", f"{text}: values are taken as they stand"


def _of_steps(found: Recordings, preparation: Preparation) -> Iterator[tuple[str, str]]:
    config, usual = preparation.config, preparation.facts.get(USUAL_STEP)
    step = usual_step(found)
    if config.step is not None or config.intervals == "measured" or not usual or not step:
        return
    if max(step / usual, usual / step) > _OTHER:
        yield (
            "other-steps",
            f"steps last {step:g}, and training saw steps of {usual:g}: the model takes one for "
            f"the other; bring them to the same, or train with --step {usual:g}, which does it to "
            "new data as well",
        )


def _of_rates(found: Recordings) -> Iterator[tuple[str, str]]:
    read_at, rates = found.details.get("read_at"), found.details.get("rates", ())
    if read_at and rates and min(rates) < read_at:
        yield (
            "lower-rate",
            f"sound of {min(rates):,} samples a second, and training heard {read_at:,}: what lies "
            f"above {min(rates) // 2:,} Hz is not in it",
        )


def _of_labels(found: Recordings, preparation: Preparation) -> Iterator[tuple[str, str]]:
    classes = set(preparation.classes)
    if found.labels is None or not classes or len(found.targets) != 1:
        return
    if preparation.config.task in (*AHEAD, "multi-label"):
        return
    seen = {str(label): None for item in found.labels for label in item.ravel() if label != ""}
    others = [label for label in seen if label not in classes]
    if others:
        shown = ", ".join(map(repr, others[:_SHOWN])) + ", …" * (len(others) > _SHOWN)
        yield (
            "unknown-labels",
            f"there are labels that the model does not know ({shown}): it knows "
            f"{', '.join(preparation.classes[:20])}; rows with another are not scored",
        )
