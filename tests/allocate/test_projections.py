"""Allocation over projections against the published rule and against all ways to spend."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmith.allocate.projections import LossCurve, by_marginal_loss, by_sensitivity
from ssmith.core.errors import InputError


def test_the_published_rule_by_hand():
    found = by_sensitivity({"a": 3.0, "b": 1.0, "c": 9.0, "d": 5.0, "e": 4.0}, 0.5, 0.04)
    # m = 5, n = 2: b, a least sensitive; c, d most.
    assert found == pytest.approx({"b": 0.54, "a": 0.5, "e": 0.5, "d": 0.5, "c": 0.46})
    pair = by_sensitivity({"x": 1.0, "y": 2.0}, 0.5, 0.04)
    assert pair == pytest.approx({"x": 0.52, "y": 0.48})
    assert by_sensitivity({"x": 1.0}, 0.5, 0.04) == {"x": 0.5}


def test_at_most_24_modules_move_at_either_end():
    found = by_sensitivity({str(i): float(i) for i in range(64)}, 0.5, 0.1)
    values = [found[str(i)] for i in range(64)]
    assert values[24:40] == [0.5] * 16
    assert values[0] == pytest.approx(0.6) and values[-1] == pytest.approx(0.4)
    steps = torch.tensor(values[:24]).diff()
    assert torch.allclose(steps, torch.full((23,), -0.1 / 23), atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(st.floats(0, 100), min_size=1, max_size=60),
    sparsity=st.floats(0.2, 0.7),
    width=st.floats(0, 0.2),
)
def test_the_mean_stays(values, sparsity, width):
    found = by_sensitivity({str(i): value for i, value in enumerate(values)}, sparsity, width)
    assert sum(found.values()) / len(found) == pytest.approx(sparsity)
    ranked = sorted(range(len(values)), key=lambda i: values[i])
    assert [found[str(i)] for i in ranked] == sorted(found.values(), reverse=True)


@pytest.mark.parametrize(("sparsity", "width"), [(0.5, 0.5), (0.5, -0.1), (0.1, 0.2), (1.0, 0.0)])
def test_fractions_outside_their_domain_are_said(sparsity, width):
    with pytest.raises(InputError, match=r"\[0, 1\)"):
        by_sensitivity({"a": 1.0, "b": 2.0}, sparsity, width)


def curve(size, losses, sparsities=(0.0, 0.25, 0.5, 0.75)):
    return LossCurve(
        size=size,
        sparsities=torch.tensor(sparsities, dtype=torch.float64),
        losses=torch.tensor(losses, dtype=torch.float64),
    )


def test_the_budget_goes_where_the_loss_rises_least():
    curves = {"flat": curve(100, [1.0, 1.0, 1.0, 1.1]), "steep": curve(100, [1.0, 2.0, 4.0, 8.0])}
    assert by_marginal_loss(curves, 0.25) == {"flat": 0.5, "steep": 0.0}
    assert by_marginal_loss(curves, 0.5) == {"flat": 0.75, "steep": 0.25}
    # A module of ten times the size gives ten times as much for the same loss.
    curves["steep"] = curve(1000, [1.0, 1.001, 1.002, 1.003])
    found = by_marginal_loss(curves, 0.5)
    assert found["steep"] * 1000 + found["flat"] * 100 == 550


@settings(deadline=None, max_examples=25)
@given(
    losses=st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=2, max_size=3),
    budget=st.integers(0, 3),
)
def test_no_way_to_spend_whole_steps_is_cheaper(losses, budget):
    """Brute force over steps of a quarter, convex curves: greedy is optimal there."""
    convex = [[0, *torch.tensor(sorted(row)).cumsum(0).tolist()] for row in losses]
    curves = {str(i): curve(4, [float(x) for x in row]) for i, row in enumerate(convex)}
    found = by_marginal_loss(curves, budget / (4 * len(curves)))
    steps = [round(found[str(i)] * 4) for i in range(len(curves))]
    assert sum(steps) == budget
    cost = sum(row[step] for row, step in zip(convex, steps, strict=True))
    best = min(
        sum(row[step] for row, step in zip(convex, split, strict=True))
        for split in product(range(4), repeat=len(convex))
        if sum(split) == budget
    )
    assert cost == best


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(4, 997), min_size=1, max_size=5),
    sparsity=st.floats(0, 0.7),
    seed=st.integers(0, 999),
)
def test_totals_are_met_to_the_weight(sizes, sparsity, seed):
    draw = torch.Generator().manual_seed(seed)
    curves = {
        str(i): curve(size, torch.rand(4, generator=draw, dtype=torch.float64).tolist())
        for i, size in enumerate(sizes)
    }
    found = by_marginal_loss(curves, sparsity)
    counts = [found[str(i)] * size for i, size in enumerate(sizes)]
    assert all(abs(count - round(count)) < 1e-9 for count in counts)
    assert round(sum(counts)) == round(sparsity * sum(sizes))


def test_what_was_not_measured_is_said():
    with pytest.raises(InputError, match="beyond what was measured"):
        by_marginal_loss({"a": curve(10, [0.0, 1.0, 2.0, 3.0])}, 0.9)
    with pytest.raises(InputError, match="rising"):
        by_marginal_loss({"a": curve(10, [0.0, 1.0], (0.1, 0.2))}, 0.1)
    with pytest.raises(InputError, match="not finite"):
        by_marginal_loss({"a": curve(10, [0.0, float("inf")], (0.0, 0.2))}, 0.1)
