import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import binomtest, norm

from ssmith.core.errors import DataError, InputError, NumericalError
from ssmith.evaluation.intervals import (
    bootstrap_means,
    estimate,
    quantile,
    resample,
    tango,
    wilson,
)
from ssmith.evaluation.metrics import ACCURACY, MEAN_ABSOLUTE_ERROR, RMSE, Outcomes

Z95 = norm.ppf(0.975)


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 500), share=st.floats(0, 1), level=st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(count, share, level):
    successes = round(share * count)
    found = wilson(successes, count, level)
    judge = binomtest(successes, count).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx((judge.low, judge.high), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_wilson_worked_number():
    # 10 of 20: 0.5 ± 1.96·√(1/80 + 1.96²/1600) / (1 + 1.96²/20), Wilson's formula by hand.
    found = wilson(10, 20)
    assert (found.low, found.high) == pytest.approx((0.29930, 0.70070), abs=5e-6)
    with pytest.raises(InputError):
        wilson(3, 2)


def _score_by_search(plus, minus, count, delta):
    """Maximise the multinomial likelihood under p_plus − p_minus = delta, without the formula."""

    def negative(q):
        p, rest = q + delta, 1 - 2 * q - delta
        return -sum(
            n * math.log(max(s, 1e-300))
            for n, s in ((plus, p), (minus, q), (count - plus - minus, rest))
            if n
        )

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = minimize_scalar(negative, bounds=(low, high), options={"xatol": 1e-13}).x
    return (plus - minus - count * delta) / math.sqrt(count * (2 * q + delta - delta**2))


@pytest.mark.parametrize(("plus", "minus", "count"), [(12, 2, 44), (3, 9, 40), (1, 1, 25)])
def test_tango_inverts_the_score_test_found_by_search(plus, minus, count):
    low, high = tango(plus, minus, count, Z95)
    middle = (plus - minus) / count
    upper = brentq(lambda d: _score_by_search(plus, minus, count, d) + Z95, middle, 0.98)
    lower = brentq(lambda d: _score_by_search(plus, minus, count, d) - Z95, -0.98, middle)
    assert (low, high) == pytest.approx((lower, upper), abs=1e-5)


def test_tango_without_disagreement_keeps_its_width():
    # With no discordant pair the score equation is nδ/(1 − δ) = z².
    low, high = tango(0, 0, 100, Z95)
    assert high == pytest.approx(Z95**2 / (100 + Z95**2), abs=1e-12)
    assert low == -high


@settings(deadline=None, max_examples=40)
@given(plus=st.integers(0, 30), minus=st.integers(0, 30), same=st.integers(1, 100))
def test_tango_is_antisymmetric_and_holds_the_estimate(plus, minus, same):
    count = plus + minus + same
    low, high = tango(plus, minus, count, Z95)
    assert tango(minus, plus, count, Z95) == pytest.approx((-high, -low), abs=1e-12)
    assert -1 <= low <= (plus - minus) / count <= high <= 1


def test_tango_covers():
    draw = np.random.default_rng(0)
    tables = draw.multinomial(200, [0.06, 0.03, 0.91], size=400)
    ends = [tango(int(a), int(b), 200, Z95) for a, b, _ in tables]
    share = np.mean([low <= 0.03 <= high for low, high in ends])
    # 400 trials of a 95 % interval: ± 3 standard errors is ± 0.033.
    assert 0.917 <= share <= 0.983


def test_quantile_is_numpys():
    draws = torch.tensor([3.0, 1.0, 7.0, 2.0, 2.5], dtype=torch.float64)
    for share in (0.0, 0.1, 0.5, 0.77, 1.0):
        assert quantile(draws, share) == pytest.approx(np.quantile(draws.numpy(), share))


def test_resampling_is_seeded_and_its_blocks_are_bounded():
    blocks = list(resample(30_000, seed=1, resamples=100))
    assert sum(len(block) for block in blocks) == 100
    assert max(block.numel() for block in blocks) <= 2**20
    again = torch.cat(list(resample(30_000, seed=1, resamples=100)))
    assert torch.equal(torch.cat(blocks), again)
    with pytest.raises(InputError, match="99 resamples"):
        next(resample(5, seed=0, resamples=99))


def test_bootstrap_means_have_the_known_moments():
    values = torch.arange(20, dtype=torch.float64)
    means = bootstrap_means(torch.stack([values, -values], 1), seed=0, resamples=4000)
    # The columns are drawn together, or pairs would be torn.
    assert torch.equal(means[:, 0], -means[:, 1])
    error = float(values.std(correction=0)) / math.sqrt(20)
    assert float(means[:, 0].mean()) == pytest.approx(9.5, abs=4 * error / math.sqrt(4000))
    assert float(means[:, 0].std()) == pytest.approx(error, rel=0.05)


def test_bootstrap_interval_covers():
    draw = torch.Generator().manual_seed(3)
    inside = 0
    for trial in range(200):
        values = torch.randn(60, generator=draw, dtype=torch.float64) + 1.0
        found = estimate(Outcomes(numerator=values), MEAN_ABSOLUTE_ERROR, seed=trial, resamples=400)
        inside += found.low <= 1.0 <= found.high
    # 200 trials of a 95 % interval: ± 3 standard errors, and the bootstrap is a little narrow.
    assert 0.89 <= inside / 200 <= 0.985


def test_estimate_chooses_the_method():
    right = Outcomes(numerator=torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64))
    found, exact = estimate(right, ACCURACY, seed=0), wilson(3, 4)
    assert found.as_dict() == exact.as_dict()
    assert (found.method, found.count, found.metric) == ("Wilson", 4, ACCURACY)
    found = estimate(right, RMSE, seed=0, resamples=200)
    assert found.method == "bootstrap, 200 resamples"
    assert found.value == math.sqrt(0.75)
    assert found.as_dict() == {"value": found.value, "low": found.low, "high": found.high}


def test_estimate_refuses():
    ones = torch.ones(3, dtype=torch.float64)
    good = Outcomes(numerator=ones)
    with pytest.raises(InputError, match="level"):
        estimate(good, RMSE, seed=0, level=95.0)
    with pytest.raises(DataError):
        estimate(Outcomes(numerator=ones[:0]), RMSE, seed=0)
    with pytest.raises(NumericalError):
        estimate(Outcomes(numerator=ones * math.nan), RMSE, seed=0)
    with pytest.raises(DataError, match="no weight"):
        estimate(Outcomes(numerator=ones, weight=0 * ones), RMSE, seed=0)
