"""Allocation by measured loss, against trying every split."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssmith.allocate import allocate, by_measured_loss
from ssmith.allocate.measured import slopes
from ssmith.core.budget import Budget
from ssmith.core.errors import InputError
from ssmith.core.scores import Scores


def scores_of(sizes, *, protected=(), seed=0):
    """Random scores of layers a, b, …; a state named in ``protected`` must stay."""
    draw = torch.Generator().manual_seed(seed)
    names = "abcdef"[: len(sizes)]
    values = {
        name: torch.rand(size, generator=draw, dtype=torch.float64)
        for name, size in zip(names, sizes, strict=True)
    }
    off = {name: torch.zeros(len(value), dtype=torch.bool) for name, value in values.items()}
    held = {name: mask.clone() for name, mask in off.items()}
    for name, index in protected:
        held[name][index] = True
    return Scores(
        unit="state",
        values=values,
        pool="layer",
        protected=held,
        absent=off,
        criterion={"name": "x"},
    )


def convex_curve(size, seed):
    """A falling convex curve measured at every number of states."""
    draw = torch.Generator().manual_seed(seed)
    drops = torch.rand(size, generator=draw, dtype=torch.float64).sort(descending=True).values
    losses = [float(drops[k:].sum()) for k in range(size + 1)]
    return list(enumerate(losses))


@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    removed=st.floats(0, 0.95),
    floor=st.integers(0, 1),
    seed=st.integers(0, 99),
)
def test_no_split_of_the_budget_loses_less(sizes, removed, floor, seed):
    scores = scores_of(sizes, seed=seed)
    budget = Budget("state", removed, min_per_layer=floor)
    if sum(sizes) - budget.removed_of(sum(sizes)) < floor * len(sizes):
        return
    curves = {name: convex_curve(n, seed + n) for name, n in zip("abc", sizes, strict=False)}
    plan, _ = allocate(by_measured_loss(scores, curves), budget)
    counts = {name: int(mask.sum()) for name, mask in plan.keep.items()}
    assert sum(counts.values()) == sum(sizes) - budget.removed_of(sum(sizes))
    losses = {name: dict(curve) for name, curve in curves.items()}
    tried = [
        sum(losses[name][k] for name, k in zip("abc", split, strict=False))
        for split in itertools.product(*(range(floor, n + 1) for n in sizes))
        if sum(split) == sum(counts.values())
    ]
    assert sum(losses[name][k] for name, k in counts.items()) == pytest.approx(min(tried), abs=1e-9)
    for name, mask in plan.keep.items():
        best = scores.values[name].argsort(descending=True)[: counts[name]]
        assert set(best.tolist()) == set(mask.nonzero().flatten().tolist())


def test_a_layer_that_hurts_more_keeps_more():
    scores = scores_of([8, 8])
    curves = {"a": [(8, 0.0), (4, 0.1), (0, 4.0)], "b": [(8, 0.0), (4, 1.0), (0, 5.0)]}
    plan, _ = allocate(by_measured_loss(scores, curves), Budget("state", 0.25))
    assert {name: int(mask.sum()) for name, mask in plan.keep.items()} == {"a": 4, "b": 8}
    assert plan.method["weigh"] == "measured loss"


def test_protected_states_stay_and_count():
    scores = scores_of([4, 4], protected=[("a", 3)])
    curves = {"a": [(4, 0.0), (0, 0.1)], "b": [(4, 0.0), (0, 9.0)]}
    plan, _ = allocate(by_measured_loss(scores, curves), Budget("state", 0.5))
    assert plan.keep["a"].tolist() == [False, False, False, True]
    assert int(plan.keep["b"].sum()) == 3


def test_slopes_follow_the_lower_hull_and_noise_saves_nothing():
    found = slopes([(0, 4.0), (2, 3.9), (4, 0.0), (6, 0.5), (8, 0.2)], 8)
    torch.testing.assert_close(found[:4], torch.full((4,), 1.0, dtype=torch.float64))
    assert bool((found[4:] < 1e-8).all())
    assert bool((found.diff() < 0).all())


@pytest.mark.parametrize("curve", [[], [(3, 1.0)], [(0, 1.0), (4, float("nan"))]])
def test_a_bad_curve_is_named(curve):
    with pytest.raises(InputError, match="layer a: its curve is"):
        by_measured_loss(scores_of([4]), {"a": curve})
