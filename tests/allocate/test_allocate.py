"""From scores and a budget to a cut."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from criteria.layers import make_layer
from ssmith.allocate import allocate
from ssmith.allocate.ranking import apportion
from ssmith.core.budget import Budget
from ssmith.core.errors import InputError, PlanError
from ssmith.core.findings import Finding
from ssmith.core.scores import Scores
from ssmith.criteria import AIRE, LAMP, LAST, Hinf, Magnitude


def scores_of(values, pool="model", protected=None, absent=None, unit="state", findings=()):
    tensors = {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}

    def masks(chosen):
        found = {name: torch.zeros(v.shape, dtype=torch.bool) for name, v in tensors.items()}
        for name, indices in (chosen or {}).items():
            found[name].view(-1)[indices] = True
        return found

    return Scores(
        unit=unit,
        values=tensors,
        pool=pool,
        protected=masks(protected),
        absent=masks(absent),
        criterion={"name": "Given"},
        findings=findings,
    )


def plan_of(scores, sparsity, **budget):
    return allocate(scores, Budget("state", sparsity, **budget))[0]


def findings_of(scores, sparsity, **budget):
    return allocate(scores, Budget("state", sparsity, **budget))[1]


def kept(plan):
    return {name: mask.flatten().nonzero().flatten().tolist() for name, mask in plan.keep.items()}


def stays(fraction, total):
    return total - Budget("state", fraction).removed_of(total)


def last_as_released(layers, percent):
    """Threshold and masks by the released procedure: sort, take the K-th largest, compare."""
    pooled = sorted(float(v) for scores in layers for v in scores)
    stay = max(int(len(pooled) * (100 - percent) / 100), 1)
    tau = pooled[-stay]
    return tau, [[float(v) >= tau for v in scores] for scores in layers]


@pytest.mark.parametrize("percent", [0, 1, 20, 33, 50, 75, 90, 99])
@pytest.mark.parametrize("two_way", [False, True])
@pytest.mark.parametrize("variant", ["intended", "released"])
def test_last_keeps_what_the_released_procedure_keeps(percent, two_way, variant):
    layers = [make_layer(seed, states=16, two_way=two_way) for seed in range(5)]
    scores = LAST(variant=variant)(layers)
    tau, masks = last_as_released(list(scores.values.values()), percent)
    loose = plan_of(scores, percent / 100, ties="keep")
    assert loose.threshold == tau
    assert [mask.tolist() for mask in loose.keep.values()] == masks
    exact = plan_of(scores, percent / 100)
    assert exact.threshold == tau
    assert exact.kept == max(int(16 * 5 * (100 - percent) / 100), 1)
    # The best states of all layers tie at 1, so the two part only below one state per layer.
    assert (kept(exact) == kept(loose)) == (exact.kept >= 5)


def test_worked_number_listops():
    """8 layers of 8 pairs, 30 %: 44 stay, 20 go."""
    layers = [make_layer(seed, states=8, two_way=True) for seed in range(8)]
    plan = plan_of(LAST()(layers), 0.30)
    assert (plan.total, plan.kept) == (64, 44)
    assert plan.sparsity == 20 / 64
    assert plan.unit == "state"
    assert plan.method["name"] == "LAST"
    assert plan.budget == Budget("state", 0.30).as_dict()


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    fraction=st.floats(0, 0.99),
    criterion=st.sampled_from([LAST(), AIRE(), LAMP(), Hinf(pool="model"), Magnitude()]),
)
def test_a_plan_meets_its_budget(seed, sizes, fraction, criterion):
    layers = [make_layer(seed + i, states=n, name=f"l{i}") for i, n in enumerate(sizes)]
    plan = plan_of(criterion(layers), fraction)
    assert plan.kept == stays(fraction, sum(sizes))
    if isinstance(criterion, LAST | AIRE | LAMP) and plan.kept >= len(sizes):
        assert all(bool(mask.any()) for mask in plan.keep.values())


@settings(deadline=None, max_examples=30)
@given(exponent=st.integers(-8, 8), fraction=st.floats(0, 0.9), which=st.sampled_from([LAST, AIRE]))
def test_scaling_one_layer_leaves_the_plan(exponent, fraction, which):
    layers = [make_layer(seed) for seed in range(4)]
    scaled = [make_layer(0, scale=2.0**exponent), *layers[1:]]
    assert kept(plan_of(which()(layers), fraction)) == kept(plan_of(which()(scaled), fraction))


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_global_plan_is_the_best_that_the_rules_allow(data):
    """Brute force over the sorted list of all units, with protection, floors and masks."""
    sizes = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any))
    score = st.integers(0, 4).map(float)
    values = {
        f"l{i}": data.draw(st.lists(score, min_size=n, max_size=n)) for i, n in enumerate(sizes)
    }
    units = [(name, j) for name, v in values.items() for j in range(len(v))]
    state = {u: data.draw(st.sampled_from(["", "", "", "protected", "absent"])) for u in units}
    picked = {
        kind: {name: [j for n, j in units if n == name and state[n, j] == kind] for name in values}
        for kind in ("protected", "absent")
    }
    fraction, floor = data.draw(st.floats(0, 0.95)), data.draw(st.integers(0, 2))
    scores = scores_of(values, **picked)

    present = [u for u in units if state[u] != "absent"]
    ranked = sorted(present, key=lambda u: (state[u] != "protected", -values[u[0]][u[1]]))
    must = [u for u in ranked if state[u] == "protected"]
    for name in values:
        own = [u for u in ranked if u[0] == name]
        must += [u for u in own[:floor] if u not in must]
    wanted = min(stays(fraction, len(units)), len(present))
    if len(must) > wanted:
        with pytest.raises(PlanError, match="must stay"):
            plan_of(scores, fraction, min_per_layer=floor)
        return
    rest = [u for u in ranked if u not in must]
    expected = set(must + rest[: wanted - len(must)])
    plan = plan_of(scores, fraction, min_per_layer=floor)
    assert {(name, j) for name, js in kept(plan).items() for j in js} == expected
    last = rest[: wanted - len(must)][-1:]
    assert plan.threshold == (values[last[0][0]][last[0][1]] if last else None)


def test_ties_go_by_layer_then_index():
    scores = scores_of({"b": [1.0, 2.0, 1.0], "a": [1.0, 1.0]})
    assert kept(plan_of(scores, 0.4)) == {"b": [0, 1, 2], "a": []}
    assert kept(plan_of(scores, 0.2)) == {"b": [0, 1, 2], "a": [0]}


def test_ties_may_all_stay():
    scores = scores_of({"b": [1.0, 2.0, 0.5], "a": [1.0, 1.0]})
    plan = plan_of(scores, 0.6, ties="keep")
    assert kept(plan) == {"b": [0, 1], "a": [0, 1]}
    assert plan.threshold == 1.0
    per_layer = scores_of({"b": [1.0, 2.0, 1.0, 0.0], "a": [3.0, 3.0, 3.0, 3.0]}, pool="layer")
    plan = plan_of(per_layer, 0.5, ties="keep")
    assert kept(plan) == {"b": [0, 1, 2], "a": [0, 1, 2, 3]}
    assert plan.threshold is None


@pytest.mark.parametrize("pool", ["model", "layer"])
def test_a_count_removes_so_many_over_all_layers(pool):
    scores = scores_of({"a": [1.0, 5.0, 6.0], "b": [7.0, 2.0, 8.0]}, pool)
    assert kept(plan_of(scores, 2)) == {"a": [1, 2], "b": [0, 2]}
    with pytest.raises(InputError, match=r"7 of 6 state are to go"):
        plan_of(scores, 7)


def test_grid_of_channels_is_kept():
    scores = scores_of({"a": [[1.0, 4.0], [3.0, 2.0]]})
    assert plan_of(scores, 0.5).keep["a"].tolist() == [[False, True], [True, False]]


def test_floor_lifts_a_weak_layer_within_the_budget():
    values = {"strong": [9.0, 8.0, 7.0, 6.0], "weak": [1.0, 0.5, 0.1, 0.0]}
    bare = plan_of(scores_of(values), 0.5)
    assert kept(bare) == {"strong": [0, 1, 2, 3], "weak": []}
    assert [(f.kind, f.layer) for f in findings_of(scores_of(values), 0.5)] == [("emptied", "weak")]
    lifted = plan_of(scores_of(values), 0.5, min_per_layer=1)
    assert kept(lifted) == {"strong": [0, 1, 2], "weak": [0]}
    assert lifted.threshold == 7.0
    assert findings_of(scores_of(values), 0.5, min_per_layer=1) == ()


def test_floor_above_a_small_layer_is_reported():
    scores = scores_of({"a": [1.0], "b": [3.0, 2.0, 1.0]})
    told = findings_of(scores, 0.0, min_per_layer=2)
    assert [(f.kind, f.layer) for f in told] == [("below-floor", "a")]


def test_protected_come_first_and_count():
    scores = scores_of({"a": [0.0, 5.0, 6.0], "b": [7.0]}, protected={"a": [0]})
    plan = plan_of(scores, 0.5)
    assert kept(plan) == {"a": [0], "b": [0]}
    assert plan.threshold == 7.0


@pytest.mark.parametrize("pool", ["model", "layer"])
def test_what_must_stay_may_exceed_the_budget(pool):
    scores = scores_of({"a": [0.0, 0.0], "b": [7.0, 1.0]}, pool, protected={"a": [0, 1]})
    with pytest.raises(PlanError) as caught:
        plan_of(scores, 0.5, min_per_layer=1)
    text = str(caught.value)
    assert "keeps 2" in text
    assert "2 are protected" in text
    assert "3 must stay" in text
    assert "at most 0.2500 removed" in text


def test_the_fraction_an_error_names_works():
    scores = scores_of({"a": [3.0], "b": [2.0], "c": [1.0]}, protected={"a": [0]})
    with pytest.raises(PlanError, match=r"at most 0\.0000 removed"):
        plan_of(scores, 0.5, min_per_layer=1)
    two = scores_of({"a": [3.0, 1.0, 2.0]}, protected={"a": [0, 1]})
    with pytest.raises(PlanError, match=r"at most 0\.3333 removed"):
        plan_of(two, 0.5)
    assert plan_of(two, 0.3333).kept == 2


def test_protected_units_lift_the_share_of_their_layer():
    values = {"a": [9.0, 8.0, 7.0, 6.0], "b": [0.0, 0.0, 0.0, 5.0]}
    plan = plan_of(scores_of(values, "layer", protected={"b": [0, 1, 2]}), 0.5)
    assert kept(plan) == {"a": [0], "b": [0, 1, 2]}


@pytest.mark.parametrize("pool", ["model", "layer"])
def test_planning_again_on_a_masked_model_removes_nothing_more(pool):
    values = {"a": [4.0, 1.0, 3.0, 2.0], "b": [8.0, 7.0, 6.0, 5.0]}
    first = plan_of(scores_of(values, pool), 0.5)
    off = {name: (~mask).nonzero().flatten().tolist() for name, mask in first.keep.items()}
    masked = scores_of(values, pool, absent=off)
    assert kept(plan_of(masked, 0.5)) == kept(first)
    deeper = plan_of(masked, 0.75)
    assert deeper.kept == 2
    assert all(set(js) <= set(kept(first)[name]) for name, js in kept(deeper).items())
    shallower = plan_of(masked, 0.25)
    assert kept(shallower) == kept(first)
    assert "already-masked" in [finding.kind for finding in findings_of(masked, 0.25)]


def test_findings_of_the_scores_are_handed_on():
    finding = Finding(layer="a", kind="unstable", message="kept", units=(0,))
    assert findings_of(scores_of({"a": [1.0]}, findings=(finding,)), 0.0) == (finding,)


@settings(deadline=None, max_examples=150)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any),
    fraction=st.floats(0, 0.99),
)
def test_each_layer_keeps_its_share(sizes, fraction):
    values = {f"l{i}": [float(j) for j in range(n)] for i, n in enumerate(sizes)}
    plan = plan_of(scores_of(values, pool="layer"), fraction)
    total = sum(sizes)
    stay = stays(fraction, total)
    assert plan.kept == stay
    assert plan.threshold is None
    for size, mask in zip(sizes, plan.keep.values(), strict=True):
        quota = Fraction(stay * size, total)
        count = int(mask.sum())
        assert math.floor(quota) <= count <= math.ceil(quota)
        assert bool(mask[size - count :].all())


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_apportionment_stays_in_bounds(data):
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    most = [data.draw(st.integers(0, n)) for n in sizes]
    least = [data.draw(st.integers(0, n)) for n in most]
    stay = data.draw(st.integers(sum(least), sum(most)))
    counts = apportion(sizes, stay, least=least, most=most)
    assert sum(counts) == stay
    assert all(lo <= n <= hi for lo, n, hi in zip(least, counts, most, strict=True))
    # No unit can move from a layer above its quota to one below it and bring both closer.
    quota = [Fraction(stay * n, sum(sizes)) for n in sizes]
    for i, j in [(i, j) for i in range(len(sizes)) for j in range(len(sizes)) if i != j]:
        if counts[i] > least[i] and counts[j] < most[j]:
            assert quota[j] - counts[j] <= quota[i] - (counts[i] - 1)


def test_equal_remainders_go_by_layer():
    assert apportion([3, 3, 3], 4, least=[0, 0, 0], most=[3, 3, 3]) == [2, 1, 1]
    assert apportion([10, 20], 16, least=[0, 0], most=[10, 20]) == [5, 11]


def test_unit_and_values_are_checked():
    with pytest.raises(InputError, match="'heads'"):
        plan_of(scores_of({"a": [1.0]}, unit="heads"), 0.5)
    with pytest.raises(InputError, match="1 scores are not finite"):
        plan_of(scores_of({"a": [1.0, math.nan]}), 0.5)
    with pytest.raises(InputError, match="no unit"):
        plan_of(scores_of({"a": []}), 0.5)
    misfit = scores_of({"a": [1.0, 2.0]})
    misfit.absent["a"] = torch.zeros(3, dtype=torch.bool)
    with pytest.raises(InputError, match="does not fit"):
        plan_of(misfit, 0.5)
