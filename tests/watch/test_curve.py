"""The curve of losses against costs, and the test of the promise."""

import numpy as np
import pytest
import torch

from ssmith.evaluation.metrics import ACCURACY, PERPLEXITY, RMSE, Outcomes
from ssmith.watch.curve import CostCurve, in_metric
from ssmith.watch.inside import MEAN_COST, RowsSeen
from ssmith.watch.profile import Promise
from ssmith.watch.quality import judge


def seen(cost, loss):
    """Rows whose dense model is always right and whose cut one is wrong with some probability."""
    random = np.random.default_rng(0)
    right = torch.from_numpy((random.random(len(cost)) > loss).astype(float))
    return RowsSeen(
        readings={MEAN_COST: cost}, sites={},
        outcomes=(Outcomes(numerator=torch.ones(len(cost)).double()), Outcomes(numerator=right)),
    )  # fmt: skip


@pytest.fixture
def curve():
    random = np.random.default_rng(1)
    costs = [random.uniform(0, 0.1, 400), random.uniform(0, 0.5, 400)]
    return CostCurve.fit([seen(cost, cost) for cost in costs], ACCURACY, ["a", "b"], 0)


def test_the_curve_finds_the_loss_that_made_it(curve):
    for cost in (0.1, 0.3):
        loss = curve.loss(np.full(300, cost), 1.0, ACCURACY, 0)
        assert loss.low <= cost <= loss.high
        assert loss.value == pytest.approx(cost, abs=0.1)
        assert loss.high - loss.low < 0.25


def test_the_curve_rises_and_says_what_is_beyond_it(curve):
    assert (np.diff(curve.best) >= 0).all() and (np.diff(curve.draws) >= 0).all()
    assert curve.beyond(np.array([0.2, 0.9])) == 0.5
    assert (curve.pairs, curve.rows) == (800, 400)


def test_losses_are_told_in_the_unit_of_the_metric():
    assert in_metric(0.02, 0.9, ACCURACY) == 0.02
    assert in_metric(0.1, 1.0, PERPLEXITY) == pytest.approx(np.exp(0.1) - 1)
    assert in_metric(0.21, 1.0, RMSE) == pytest.approx(0.1)


def outcomes(share, count, seed):
    random = np.random.default_rng(seed)
    return Outcomes(numerator=torch.from_numpy((random.random(count) < share).astype(float)))


def decided(share, looks, count=50):
    promise = Promise(metric="accuracy", value=0.9, level=0.9, largest=1.0, worst=0.88)
    state = None
    for number in range(looks):
        found, state = judge(promise, outcomes(share, count, number), ACCURACY, state, 0.05)
    return found


def test_a_promise_that_is_kept_is_not_called_broken():
    found = decided(0.9, 40)
    assert found.decision == "open" and found.rows == 2000
    assert found.interval[0] <= 0.0


def test_a_promise_that_is_broken_is_found_over_looks():
    assert decided(0.7, 1, count=10).decision == "open"
    found = decided(0.7, 10)
    assert found.decision == "worse"
    assert found.loss == pytest.approx(0.2, abs=0.05)
    assert 0 < found.interval[0] <= found.loss <= found.interval[1]
