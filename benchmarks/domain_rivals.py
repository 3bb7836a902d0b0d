"""What plain methods make of the rows that the models read: no state space, no sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssmith.core.preparation import Preparation
from ssmith.core.sequences import Sequences

Numbers = NDArray[np.float64]
SEASON = 24
"""Steps of a day, of hours."""
_SMALL = 1000
"""Most values of a row that are features themselves."""
_INVERSE_PENALTIES = (0.001, 0.01, 0.1, 1.0)


def features(part: Sequences) -> Numbers:
    """Return six numbers of each channel, and the values themselves where rows are short and equal.

    Mean, spread, least, most and last value, and the mean change from step to step.
    """
    found = []
    for row, length in zip(part.x.double().numpy(), part.lengths.tolist(), strict=True):
        steps = row[:length]
        change = np.abs(np.diff(steps, axis=0)).mean(0)
        sums = [steps.mean(0), steps.std(0), steps.min(0), steps.max(0), steps[-1], change]
        found.append(np.concatenate(sums))
    equal = int(part.lengths.min()) == part.x.shape[1]
    if not equal or part.x.shape[1] * part.x.shape[2] > _SMALL:
        return np.array(found)
    return np.concatenate([np.array(found), part.x.double().numpy().reshape(len(part), -1)], axis=1)


def rivals(
    train: Sequences, validation: Sequences, tests: dict[str, Sequences], preparation: Preparation
) -> dict[str, dict[str, float]]:
    """Return what each plain method reaches on test rows, by the name of the rows.

    Args:
        train: rows that are learned.
        validation: on which the strength of the penalty is chosen.
        tests: rows that are predicted.
        preparation: of all of them.
    """
    x, held = features(train), features(validation)
    found: dict[str, dict[str, float]] = {}
    numbers = bool(preparation.targets)
    makers = _regressors() if numbers else _classifiers()
    for name, choices in makers.items():
        fitted = [model.fit(x, _targets(train, preparation)) for model in choices]
        best = max(fitted, key=lambda one: -_error(one, held, validation, preparation))
        found[name] = {
            key: _value(_error(best, features(part), part, preparation), numbers=numbers)
            for key, part in tests.items()
        }
    if numbers:
        found["the same hour a day before"] = {
            key: _distance(season_before(part, preparation), _targets(part, preparation))
            for key, part in tests.items()
        }
    return found


def season_before(part: Sequences, preparation: Preparation) -> Numbers:
    """Return for each horizon the value whole days before it that is known."""
    place = preparation.names.index(preparation.config.label[0])
    channel = preparation.channels[place]
    last = part.lengths.numpy() - 1
    columns = []
    for ahead in preparation.config.horizon:
        back = SEASON * -(-ahead // SEASON) - ahead
        values = part.x.numpy()[np.arange(len(part)), last - back, place].astype(np.float64)
        columns.append(values * channel.std + channel.mean)
    return np.stack(columns, axis=1)


def _classifiers() -> dict[str, list[Any]]:
    linear = [
        make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        for strength in _INVERSE_PENALTIES
    ]
    boosted = HistGradientBoostingClassifier(max_iter=60, max_features=0.2, random_state=0)
    return {"logistic regression": linear, "gradient boosting": [boosted]}


def _regressors() -> dict[str, list[Any]]:
    linear = [
        make_pipeline(StandardScaler(), Ridge(1 / strength)) for strength in _INVERSE_PENALTIES
    ]
    boosted = HistGradientBoostingRegressor(
        loss="absolute_error", max_iter=100, max_features=0.2, random_state=0
    )
    return {"ridge regression": linear, "gradient boosting": [MultiOutputRegressor(boosted)]}


def _targets(part: Sequences, preparation: Preparation) -> Numbers:
    if not preparation.targets:
        return part.y.numpy()
    return preparation.targets_back(part.y.reshape(len(part), -1).numpy())


def _error(model: Any, x: Numbers, part: Sequences, preparation: Preparation) -> float:
    """Return the share of wrong classes, or the mean absolute error."""
    said, truth = model.predict(x), _targets(part, preparation)
    if preparation.targets:
        return _distance(said.reshape(truth.shape), truth)
    return float((said != truth).mean())


def _distance(said: Numbers, truth: Numbers) -> float:
    return float(np.abs(said - truth).mean())


def _value(error: float, *, numbers: bool) -> float:
    return error if numbers else 1 - error
