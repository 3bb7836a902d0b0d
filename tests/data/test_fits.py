from __future__ import annotations

import numpy as np
import pytest

from ssmith.core.errors import DataError, InputError
from ssmith.data import check_fits, load_data


@pytest.fixture
def series(arrays, write):
    return load_data(write(arrays))


@pytest.fixture
def tokens(write):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, size=(40, 6))
    x[3, 2] = 9
    return load_data(write({"x": x, "y": np.array([0, 1] * 20), "vocabulary": 20}))


def fits(data, **changes):
    given = {"channels": 2, "vocabulary": None, "outputs": 2, "task": "classification"}
    check_fits(data, **(given | changes))


def test_what_fits_passes(series, tokens):
    fits(series)
    fits(tokens, channels=None, vocabulary=20)
    fits(tokens, channels=None, vocabulary=10)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 3}, r"has 2 channels.*allowed: 3"),
        ({"outputs": 5}, "has 2 classes; allowed: 5"),
        ({"task": "regression"}, "is for classification; allowed: regression"),
        ({"channels": None, "vocabulary": 7}, "real-valued series; allowed: tokens"),
    ],
)
def test_series_that_does_not_fit(series, changes, message):
    with pytest.raises(DataError, match=message):
        fits(series, **changes)


def test_tokens_that_do_not_fit(tokens):
    with pytest.raises(DataError, match="holds tokens"):
        fits(tokens)
    with pytest.raises(DataError, match=r"1 token out of the vocabulary.*is 9 .*0 to 8"):
        fits(tokens, channels=None, vocabulary=9)


def test_targets_that_do_not_fit(arrays, write):
    arrays["y"] = np.zeros((40, 3, 2), np.float32)
    data = load_data(write(arrays), task="forecast")
    fits(data, outputs=6, task="forecast")
    with pytest.raises(DataError, match=r"6 targets per sequence.*allowed: 5"):
        fits(data, outputs=5, task="forecast")


@pytest.mark.parametrize("both", [{"vocabulary": 3}, {"channels": None}])
def test_a_model_takes_one_kind_of_input(series, both):
    with pytest.raises(InputError, match="exactly one"):
        fits(series, **both)
