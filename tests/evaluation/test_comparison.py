import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, permutation_test

from ssmith.core.errors import InputError
from ssmith.core.settings import to_mapping
from ssmith.evaluation.comparison import compare_outcomes, mcnemar
from ssmith.evaluation.intervals import tango
from ssmith.evaluation.metrics import ACCURACY, MEAN_ABSOLUTE_ERROR, PERPLEXITY, RMSE, Outcomes
from ssmith.evaluation.swaps import Swaps


def table(both, only_before, only_after, neither):
    first = [1.0] * (both + only_before) + [0.0] * (only_after + neither)
    second = [1.0] * both + [0.0] * only_before + [1.0] * only_after + [0.0] * neither
    return seen(torch.tensor([first, second], dtype=torch.float64))


def seen(values):
    return [Outcomes(numerator=row) for row in values]


def swaps(before, after, resamples):
    return Swaps.draw(before, after, seed=0, resamples=resamples).p()


def test_mcnemar_is_the_chi_square_of_its_paper():
    for only_before, only_after in [(0, 0), (5, 0), (3, 3), (10, 2), (7, 12), (900, 1000)]:
        square, count = (only_before - only_after) ** 2, only_before + only_after
        judge = chi2.sf(square / count, 1) if count else 1.0
        assert mcnemar(only_before, only_after) == pytest.approx(judge, rel=1e-9)
    with pytest.raises(InputError):
        mcnemar(-1, 0)


@settings(deadline=None, max_examples=60)
@given(counts=st.tuples(*[st.integers(0, 12)] * 4).filter(lambda item: sum(item) > 1))
def test_interval_and_test_of_shares_never_contradict(counts):
    found = compare_outcomes(*table(*counts), ACCURACY, seed=0, resamples=100)
    rejects = not found.difference.low <= 0 <= found.difference.high
    if abs(found.p - 0.05) > 1e-9:
        assert rejects == (found.p < 0.05)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(6, 12),
    change=st.floats(-0.6, 0.6),
    metric=st.sampled_from([PERPLEXITY, RMSE, MEAN_ABSOLUTE_ERROR]),
)
def test_interval_and_test_of_means_never_contradict(seed, count, change, metric):
    draw = torch.Generator().manual_seed(seed)
    before = 1 + torch.rand(count, generator=draw, dtype=torch.float64)
    after = before + change * torch.rand(count, generator=draw, dtype=torch.float64)
    found = compare_outcomes(*seen([before, after]), metric, seed=seed, resamples=400)
    shown = found.change
    if shown.low is not None:
        assert (shown.low <= 0 <= shown.high) == (found.p > 0.05)
        assert shown.low <= shown.value <= shown.high


def test_the_inverted_interval_is_the_exhaustive_one():
    draw = np.random.default_rng(3)
    before, after = draw.normal(size=(2, 9)) + np.array([[1.0], [1.5]])
    signs = np.array(list(itertools.product([1, -1], repeat=9)))

    def p(shift):
        means = signs @ (after - before - shift) / 9
        return np.mean(np.abs(means) >= abs(np.mean(after - before) - shift) - 1e-12)

    inside = [shift for shift in np.linspace(-3, 4, 7001) if p(shift) > 0.05]
    found = compare_outcomes(
        *seen(torch.tensor(np.stack([before, after]))), MEAN_ABSOLUTE_ERROR, seed=0,
        resamples=40_000,
    )  # fmt: skip
    assert found.difference.low == pytest.approx(min(inside), abs=0.05)
    assert found.difference.high == pytest.approx(max(inside), abs=0.05)


@pytest.mark.parametrize("metric", [ACCURACY, MEAN_ABSOLUTE_ERROR, PERPLEXITY])
def test_copies_of_one_row_say_nothing_of_how_rows_vary(metric):
    units = torch.zeros(7, dtype=torch.int64)
    ones = torch.ones(7, dtype=torch.float64)
    pair = [Outcomes(numerator=item, units=units) for item in (ones, 0 * ones)]
    found = compare_outcomes(*pair, metric, seed=0, resamples=100)
    for item in (found.before, found.after, found.difference):
        assert (item.low, item.high, item.units, item.count) == (None, None, 1, 7)
        assert "no interval" in item.text
    assert (found.loss_lower_bound, found.loss_upper_bound) == (None, None)
    assert found.count_to_prove(0.5) is None
    assert "few-rows" in [item.kind for item in found.findings()]
    json.dumps(to_mapping(found.section(split="test")), allow_nan=False)


def test_copies_do_not_narrow_an_interval():
    draw = torch.Generator().manual_seed(0)
    values = torch.rand(2, 30, generator=draw, dtype=torch.float64)
    once = compare_outcomes(*seen(values), MEAN_ABSOLUTE_ERROR, seed=0, resamples=200)
    units = torch.arange(30).repeat(7)
    copied = [Outcomes(numerator=item.repeat(7), units=units) for item in values]
    found = compare_outcomes(*copied, MEAN_ABSOLUTE_ERROR, seed=0, resamples=200)
    assert found.count == 210
    assert found.before.units == 30
    for first, second in ((once.before, found.before), (once.difference, found.difference)):
        assert first.low == pytest.approx(second.low, rel=1e-12)
        assert first.high == pytest.approx(second.high, rel=1e-12)
    assert found.p == once.p


def test_swap_test_is_the_exhaustive_permutation_test():
    draw = np.random.default_rng(5)
    before, after = draw.exponential(size=(2, 10))
    judge = permutation_test(
        (before, after),
        lambda a, b: math.sqrt(b.mean()) - math.sqrt(a.mean()),
        permutation_type="samples",
        n_resamples=np.inf,
    ).pvalue
    tensors = torch.tensor(before), torch.tensor(after)
    found = swaps(*seen(tensors), resamples=20_000)
    assert found == pytest.approx(judge, abs=4 * math.sqrt(judge * (1 - judge) / 20_000))


def test_swap_test_finds_nothing_in_equal_models_and_something_in_unequal_ones():
    values = torch.rand(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    same = swaps(*seen([values, values]), resamples=500)
    worse = swaps(*seen([values, values + 0.1]), resamples=500)
    assert same == 1.0
    assert worse == 1 / 501


def test_ties_with_the_data_count_as_extreme():
    # Three equal differences: 2 of the 8 swaps reach them, whatever the rounding.
    before = torch.tensor([1000.1, 1000.2, 1000.3], dtype=torch.float64)
    found = swaps(*seen([before, before + 1e-3]), resamples=4000)
    assert found == pytest.approx(0.25, abs=0.03)


def test_accuracy_compared():
    found = compare_outcomes(*table(80, 6, 2, 12), ACCURACY, seed=0, resamples=100)
    assert to_mapping(found.agreement) == {
        "both_right": 80,
        "only_before": 6,
        "only_after": 2,
        "both_wrong": 12,
    }
    assert (found.before.value, found.after.value) == (0.86, 0.82)
    assert found.loss == pytest.approx(0.04)
    assert found.difference.value == pytest.approx(-0.04)
    assert found.p == pytest.approx(chi2.sf(2.0, 1))
    assert (found.loss_lower_bound, found.loss_upper_bound) == pytest.approx(
        tango(6, 2, 100, 1.6448536269514722)
    )
    section = json.loads(json.dumps(to_mapping(found.section(split="test")), allow_nan=False))
    assert section["interval"] == "Wilson"
    assert section["count"] == 100
    assert section["difference"]["low"] < -0.04 < section["difference"]["high"]


def test_equal_models_on_few_sequences_prove_little():
    found = compare_outcomes(*table(20, 0, 0, 0), ACCURACY, seed=0, resamples=100)
    assert found.loss == 0
    assert found.loss_upper_bound > 0.1
    # z² (1 − δ) / δ for δ = 0.005 and one-sided 95 %.
    assert found.count_to_prove(0.005) == 539
    assert found.count_to_prove(0.0) is None


@settings(deadline=None, max_examples=30)
@given(
    counts=st.tuples(*[st.integers(0, 30)] * 4).filter(sum),
    metric=st.sampled_from([ACCURACY, MEAN_ABSOLUTE_ERROR, RMSE]),
)
def test_exchanging_the_models_changes_the_sign_only(counts, metric):
    first, second = table(*counts)
    there = compare_outcomes(first, second, metric, seed=7, resamples=100)
    back = compare_outcomes(second, first, metric, seed=7, resamples=100)
    assert back.difference.value == pytest.approx(-there.difference.value, abs=1e-12)
    if there.difference.low is not None:
        assert back.difference.low == pytest.approx(-there.difference.high, abs=1e-9)
    if there.loss_lower_bound is not None:
        assert back.loss_upper_bound == pytest.approx(-there.loss_lower_bound, abs=1e-9)
    assert back.p == there.p
    assert back.before == there.after


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), scale=st.floats(0.1, 10))
def test_a_metric_in_another_unit_gives_the_same_comparison(seed, scale):
    draw = torch.Generator().manual_seed(seed)
    before, after = torch.rand(2, 25, generator=draw, dtype=torch.float64)
    plain, scaled = (
        compare_outcomes(
            *seen([before * unit, after * unit]), MEAN_ABSOLUTE_ERROR, seed=1, resamples=100
        )
        for unit in (1.0, scale)
    )
    assert scaled.difference.low == pytest.approx(plain.difference.low * scale)
    assert scaled.p == plain.p


def test_pairing_narrows_the_interval():
    draw = torch.Generator().manual_seed(0)
    before = 10 * torch.rand(80, generator=draw, dtype=torch.float64)
    after = before + 0.1 + 0.01 * torch.rand(80, generator=draw, dtype=torch.float64)
    found = compare_outcomes(*seen([before, after]), MEAN_ABSOLUTE_ERROR, seed=0, resamples=500)
    assert 0.1 < found.difference.low < found.loss < found.difference.high < 0.11
    assert found.loss_upper_bound <= found.difference.high
    assert found.agreement is None
    needed = found.count_to_prove(found.loss + 1e-4)
    # An error of about 0.01/√12/√80 · 1.645 has to shrink to 1e-4.
    assert needed == pytest.approx(80 * (0.01 / math.sqrt(12 * 80) * 1.645 / 1e-4) ** 2, rel=0.3)


def test_the_interval_of_a_mean_covers():
    draw = torch.Generator().manual_seed(11)
    inside = 0
    for trial in range(150):
        before = torch.rand(50, generator=draw, dtype=torch.float64)
        after = before + 0.2 * torch.randn(50, generator=draw, dtype=torch.float64)
        found = compare_outcomes(
            *seen([before, after]), MEAN_ABSOLUTE_ERROR, seed=trial, resamples=300
        )
        inside += found.difference.low <= 0.0 <= found.difference.high
    assert 0.88 <= inside / 150 <= 0.99


def test_compare_refuses():
    ones = torch.ones(3, dtype=torch.float64)
    with pytest.raises(InputError, match="3 outcomes before and 2 after"):
        compare_outcomes(*seen([ones, ones[:2]]), ACCURACY, seed=0)
    with pytest.raises(InputError, match="level"):
        compare_outcomes(*seen([ones, ones]), ACCURACY, seed=0, level=0.4)


def weighted(draw, count=8):
    values = torch.rand(3, count, generator=draw, dtype=torch.float64)
    weight = 1 + (30 * values[2]).round()
    return [Outcomes(numerator=40 * row, weight=weight) for row in values[:2]]


def test_exchanging_the_models_turns_a_ratio_over():
    before, after = weighted(torch.Generator().manual_seed(1))
    there = compare_outcomes(before, after, PERPLEXITY, seed=0, resamples=500)
    back = compare_outcomes(after, before, PERPLEXITY, seed=0, resamples=500)
    assert (1 + there.change.value) * (1 + back.change.value) == pytest.approx(1)
    assert (1 + there.change.low) * (1 + back.change.high) == pytest.approx(1, rel=1e-4)
    assert there.p == back.p
    section = to_mapping(there.section(split="test"))
    assert section["loss"]["value"] == pytest.approx(section["increase"]["value"])
    assert section["weight"] == before.total
    assert section["weighed"] == "counted tokens"


@given(st.lists(st.floats(1, 50), min_size=6, max_size=12), st.floats(-0.3, 0.3))
def test_a_constant_change_of_a_ratio_has_no_spread(losses, change):
    before = torch.tensor(losses).double()
    weight = torch.full_like(before, 29.0)
    pair = [Outcomes(numerator=item, weight=weight) for item in (before, before + 29 * change)]
    found = compare_outcomes(*pair, PERPLEXITY, seed=0, resamples=100)
    assert found.change.value == pytest.approx(math.expm1(change), abs=1e-12)
    assert found.loss_lower_bound == pytest.approx(found.loss_upper_bound, abs=1e-9)


def test_p_of_ratios_is_the_share_of_swaps_that_differ_as_much():
    change = torch.tensor([3.0, 2.0, 1.0, 0.5]).double()
    sums = [
        abs(sum((-1) ** (code >> bit & 1) * float(change[bit]) for bit in range(4)))
        for code in range(16)
    ]
    exact = sum(item >= 6.5 for item in sums) / 16
    weight = torch.full_like(change, 7.0)
    start = Outcomes(numerator=10 + 0 * change, weight=weight)
    moved = Outcomes(numerator=10 + change, weight=weight)
    assert swaps(start, moved, resamples=40_000) == pytest.approx(exact, abs=0.01)
    assert swaps(start, start, resamples=100) == 1


def test_shares_of_rows_with_weights_are_bootstrapped():
    draw = torch.Generator().manual_seed(2)
    right = torch.randint(0, 50, (2, 30), generator=draw).double()
    pair = [Outcomes(numerator=row, weight=torch.full_like(row, 50.0)) for row in right]
    found = compare_outcomes(*pair, ACCURACY, seed=0, resamples=200)
    assert found.before.value == pytest.approx(float(right[0].mean()) / 50)
    assert found.agreement is None
    assert found.before.method == "bootstrap, 200 resamples"
