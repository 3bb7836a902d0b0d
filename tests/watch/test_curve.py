"""The curve of losses against costs, and the test of the promise."""

import numpy as np
import pytest
import torch

from ssmith.evaluation.metrics import ACCURACY, PERPLEXITY, RMSE, Outcomes
from ssmith.watch.curve import APART, DISAGREE, CostCurve, Shifted, in_metric
from ssmith.watch.inside import MEAN_COST, RowsSeen
from ssmith.watch.profile import Promise
from ssmith.watch.quality import judge


def seen(cost, loss, apart=0.1):
    """Rows whose dense model is always right and whose cut one is wrong with some probability."""
    random = np.random.default_rng(0)
    right = torch.from_numpy((random.random(len(cost)) > loss).astype(float))
    return RowsSeen(
        readings=told(cost, apart), sites={},
        outcomes=(Outcomes(numerator=torch.ones(len(cost)).double()), Outcomes(numerator=right)),
    )  # fmt: skip


def told(cost, apart=0.1):
    return {MEAN_COST: cost, APART: np.full(len(cost), apart), DISAGREE: np.full(len(cost), 0.9)}


def fitted(*kinds):
    """A curve of rows as they are, and of (kind, cost, loss) more."""
    plain = np.random.default_rng(1).uniform(0, 0.1, 400)
    shifts = [Shifted(kind="", what="plain", seen=seen(plain, plain))]
    for kind, cost, loss in kinds:
        shifts.append(Shifted(kind=kind, what=kind, seen=seen(cost, loss)))
    return CostCurve.fit(shifts, ACCURACY, 0)


@pytest.fixture
def curve():
    cost = np.random.default_rng(1).uniform(0, 0.5, 400)
    return fitted(("a", cost, cost), ("b", cost, cost))


def test_the_curve_finds_the_loss_that_made_it(curve):
    for cost in (0.1, 0.3):
        loss = curve.loss(told(np.full(300, cost)), 1.0, ACCURACY, 0)
        assert loss.low <= cost <= loss.high
        assert loss.value == pytest.approx(cost, abs=0.1)
        assert loss.high - loss.low < 0.25
        assert loss.level == pytest.approx(2 / 3)


def test_what_a_kind_of_change_hides_from_the_curve_widens_the_interval():
    cost = np.linspace(0, 0.5, 400)
    # Rows of kind c lose 0.4 more than their cost says: no curve of the others can know.
    odd = fitted(("a", cost, cost), ("c", cost, cost + 0.4))
    loss = odd.loss(told(cost, apart=0.1), 1.0, ACCURACY, 0)
    assert odd.slack == pytest.approx(0.4 / 0.1, rel=0.15)
    assert loss.low <= 0.25 and loss.high >= 0.65
    # Where the two models answer half as far apart, half as much can be hidden.
    half = odd.loss(told(cost, apart=0.05), 1.0, ACCURACY, 0)
    assert loss.high - half.high == pytest.approx(odd.slack * 0.05)
    # Answers that differ in a tenth of the rows can cost no more than a tenth of the accuracy.
    readings = {**told(cost, apart=0.1), DISAGREE: np.full(len(cost), 0.1)}
    assert odd.loss(readings, 1.0, ACCURACY, 0).high == pytest.approx(0.1)


def test_the_curve_rises_and_says_what_is_beyond_it(curve):
    assert (np.diff(curve.best) >= 0).all() and (np.diff(curve.draws) >= 0).all()
    assert curve.beyond(np.array([0.2, 0.9])) == 0.5
    assert (curve.pairs, curve.rows, curve.kinds) == (1200, 400, 2)


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
