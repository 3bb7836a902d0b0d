"""What people ask of a sequence model on one split of its data, beside naive answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ssmith.core.preparation import KNOWN, Preparation
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.evaluation import OwnMetric, answers_of_own, measured_own, predict
from ssmith.evaluation.measures import (
    Measure,
    Numbers,
    of_classes,
    of_labels,
    of_numbers,
    of_scores,
)
from ssmith.evaluation.wishes import anomaly_scores
from ssmith.families import preparation_of

_NEARLY = 1.1
_LATER = ("forecasting", "anomaly")


def measured(
    model: nn.Module,
    data: SequenceData,
    split: str,
    own: OwnMetric | None = None,
    *,
    batch_size: int = 64,
) -> tuple[Measure, ...]:
    """Return measures of a model on a split, in the targets' own units; none without the split.

    The residuals of the validation split are the spread around predictions of others; a seasonal
    forecast has the season that is best on the training split. The user's own metric comes last.
    """
    if split not in data.splits or not len(data.splits[split]):
        return ()
    usual = _usual(model, data, split, batch_size)
    if own is None:
        return usual
    return *usual, measured_own(own, *answers_of_own(model, data.split(split), batch_size))


def _usual(model: nn.Module, data: SequenceData, split: str, size: int) -> tuple[Measure, ...]:
    part = data.split(split)
    preparation = preparation_of(model)
    outputs = predict(model, part, size).double().numpy()
    if data.task == "classification":
        return of_classes(outputs, part.y.numpy(), data.classes)
    if data.task == "multi-label":
        return of_labels(outputs, part.y.double().numpy())
    y = _back(part.y, preparation)
    residuals = None
    if split != "validation" and "validation" in data.splits:
        other = data.split("validation")
        residuals = _back(other.y, preparation) - _back(predict(model, other, size), preparation)
    errors = of_numbers(
        _back(outputs, preparation), y, naive=_naive(data, part, preparation), residuals=residuals
    )
    return *_of_anomalies(_back(outputs, preparation), y, part, preparation), *errors


def _of_anomalies(
    given: Numbers, truth: Numbers, part: Sequences, preparation: Preparation | None
) -> tuple[Measure, ...]:
    """Return how well scores tell anomalies that are known from usual rows."""
    if preparation is None or KNOWN not in part.columns:
        return ()
    known = np.array(part.columns[KNOWN]) == "1"
    return of_scores(anomaly_scores(given, truth, preparation), known)


def _back(values: Tensor | NDArray[np.float64], preparation: Preparation | None) -> Numbers:
    """Return targets or predictions in the targets' own units, one row each."""
    plain = values.double().numpy() if isinstance(values, Tensor) else values
    flat = plain.reshape(len(plain), -1)
    scaled = preparation is not None and preparation.targets
    return preparation.targets_back(flat) if preparation and scaled else flat


def _naive(
    data: SequenceData, part: Sequences, preparation: Preparation | None
) -> list[tuple[str, Numbers]]:
    """Return forecasts without a model: the last value, and that of a season before."""
    later = preparation is not None and preparation.task in _LATER
    if preparation is None or not later or preparation.config.reconstructs:
        return []
    last = _before(part, preparation, 1)
    train = data.split("train")
    y = _back(train.y, preparation)
    longest = int(min(train.lengths.min(), part.lengths.min()))
    errors = {lag: float(np.abs(_before(train, preparation, lag) - y).mean())
              for lag in range(2, longest + 1)}  # fmt: skip
    found = [("the last value", last)]
    if errors:
        # Two seasons before is as good as one: the first that is nearly the best.
        least = _NEARLY * min(errors.values())
        season = next(lag for lag, error in errors.items() if error <= least)
        found.append((f"the value {season} steps before", _before(part, preparation, season)))
    return found


def _before(part: Sequences, preparation: Preparation, season: int) -> Numbers:
    """Return for each horizon the latest value that is known whole seasons before it."""
    config = preparation.config
    places = [preparation.names.index(name) for name in config.label]
    channels = [preparation.channels[place] for place in places]
    rows = np.arange(len(part))
    found = []
    for ahead in config.horizon:
        back = season * -(-ahead // season) - ahead
        step = part.lengths.numpy() - 1 - back
        for place, channel in zip(places, channels, strict=True):
            values = part.x.numpy()[rows, np.maximum(step, 0), place].astype(np.float64)
            found.append(values * channel.std + channel.mean)
    return np.stack(found, axis=1)
