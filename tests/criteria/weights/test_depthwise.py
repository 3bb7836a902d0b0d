"""Cuts of depthwise convolutions against all masks, tried one by one."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.unchecked import unchecked
from ssmith.core.convex import hull_slopes
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.pattern import Pattern
from ssmith.criteria.weights import cut_depthwise


def problem(channels=3, taps=4, steps=50, seed=0):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(channels, taps, generator=draw, dtype=torch.float64)
    x = torch.randn(channels, steps + taps, generator=draw, dtype=torch.float64).cumsum(1)
    lagged = x.unfold(1, taps, 1)
    return weight, lagged.transpose(1, 2) @ lagged


def lowest_cost(row, gram, removed):
    """The least error of one channel with so many taps gone, over all sets of them."""
    lowest = float("inf")
    for kept in product([False, True], repeat=len(row)):
        if sum(kept) != len(row) - removed:
            continue
        on = [i for i, keep in enumerate(kept) if keep]
        values = torch.zeros_like(row)
        if on:
            values[on] = torch.linalg.solve(gram[on][:, on], gram[on] @ row)
        lowest = min(lowest, float((values - row) @ gram @ (values - row)))
    return lowest


@settings(deadline=None, max_examples=15)
@given(removed=st.integers(0, 4), seed=st.integers(0, 999))
def test_one_channel_gets_the_best_of_all_sets(removed, seed):
    weight, gram = problem(channels=1, seed=seed)
    # All four taps cannot go: a fraction is below 1.
    share = min(removed / 4, 0.75)
    cut = cut_depthwise(weight, gram, share, damp=1e-12)
    assert cut.error == pytest.approx(lowest_cost(weight[0], gram[0], round(4 * share)), abs=1e-6)


def test_the_budget_goes_where_it_costs_least():
    weight, gram = problem(channels=3)
    cut = cut_depthwise(weight, gram, 0.5, damp=1e-12)
    assert int((~cut.keep).sum()) == 6
    every = min(
        sum(lowest_cost(weight[i], gram[i], n) for i, n in enumerate(split))
        for split in product(range(5), repeat=3)
        if sum(split) == 6
    )
    even = sum(lowest_cost(weight[i], gram[i], 2) for i in range(3))
    assert every * (1 - 1e-6) <= cut.error <= even * (1 + 1e-6)


def test_other_channels_are_left_untouched():
    weight, gram = problem(channels=4)
    # A channel that costs nothing to cut: all of the budget goes there.
    gram[2] *= 1e-12
    cut = cut_depthwise(weight, gram, 0.25)
    assert cut.keep.sum(1).tolist() == [4, 4, 0, 4]
    torch.testing.assert_close(cut.weight[[0, 1, 3]], weight[[0, 1, 3]], rtol=1e-9, atol=1e-9)


def test_an_update_never_costs_more_than_none():
    for seed in range(5):
        weight, gram = problem(channels=6, seed=seed)
        plain = cut_depthwise(weight, gram, 0.5, damp=1e-9, update="none")
        fitted = cut_depthwise(weight, gram, 0.5, damp=1e-9)
        assert fitted.error <= plain.error * (1 + 1e-6)
        assert torch.equal(plain.weight, weight * plain.keep)


def test_patterns_span_the_filter():
    weight, gram = problem()
    cut = cut_depthwise(weight, gram, Pattern(keep=2, of=4), damp=1e-12)
    assert cut.keep.sum(1).tolist() == [2, 2, 2]
    assert cut.error == pytest.approx(
        sum(lowest_cost(weight[i], gram[i], 2) for i in range(3)), rel=1e-5
    )
    with pytest.raises(UnsupportedError, match="1:2 on filters of 4"):
        cut_depthwise(weight, gram, Pattern(keep=1, of=2))


def test_what_does_not_fit_is_said():
    weight, gram = problem()
    with pytest.raises(InputError, match="a gram of shape"):
        unchecked(cut_depthwise)(weight, gram[:2], 0.5)
    with pytest.raises(InputError, match="fraction"):
        cut_depthwise(weight, gram, 1.5)
    with pytest.raises(InputError, match="multiple of 8"):
        cut_depthwise(weight, gram, Pattern(keep=4, of=8))
    with pytest.raises(UnsupportedError, match="12 taps"):
        cut_depthwise(torch.ones(1, 12), torch.eye(12, dtype=torch.float64)[None], 0.5)


@settings(deadline=None, max_examples=40)
@given(
    costs=st.lists(st.floats(-5, 5), min_size=2, max_size=8),
    gaps=st.lists(st.floats(0.1, 3), min_size=8, max_size=8),
)
def test_hull_slopes_make_the_largest_convex_function_below(costs, gaps):
    values = torch.tensor(costs, dtype=torch.float64)
    at = torch.tensor(gaps[: len(costs)], dtype=torch.float64).cumsum(0)
    slopes = hull_slopes(values, at)
    assert bool((slopes.diff() >= -1e-9).all())
    hull = torch.cat([values[:1], values[:1] + (slopes * at.diff()).cumsum(0)])
    assert bool((hull <= values + 1e-9).all())
    assert float(hull[-1]) == pytest.approx(float(values[-1]), abs=1e-9)
    # Largest: every step lies on a chord between two of the points.
    touched = (hull - values).abs() < 1e-9
    corner = slopes.diff().abs() > 1e-9
    assert bool(touched[1:-1][corner].all())
