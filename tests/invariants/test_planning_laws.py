"""Laws of planning that hold for every criterion on every kind of layer."""

import copy

import pytest
import torch

import ssmith
from helpers.models import KINDS, make_model
from helpers.orders import permute_
from helpers.tolerances import assert_close
from ssmith.core.plan import Plan
from ssmith.families import find_layers

CRITERIA = [
    ssmith.criteria.AIRE(),
    ssmith.criteria.Hinf(),
    ssmith.criteria.LAMP(),
    ssmith.criteria.LAST(),
    ssmith.criteria.Magnitude(),
    ssmith.criteria.Random(seed=3),
]

# A criterion sees discrete modes; how they were discretised makes no difference to it.
PLANNED = [kind for kind in KINDS if kind.discretisation == "zoh"]
every_kind = pytest.mark.parametrize("kind", PLANNED, ids=str)
every_criterion = pytest.mark.parametrize("criterion", CRITERIA, ids=lambda item: item.label)


@every_kind
@every_criterion
@pytest.mark.parametrize("share", [0.34, 0.9])
def test_a_plan_meets_its_budget_and_changes_nothing(kind, criterion, share):
    model = make_model(kind)
    before = {name: item.clone() for name, item in model.state_dict().items()}
    budget = ssmith.Budget(states=share)
    plan = ssmith.plan(model, criterion, budget)
    assert plan.kept == budget.kept_of(plan.total)
    assert all(torch.equal(item, before[name]) for name, item in model.state_dict().items())
    receipt = ssmith.prune_(model, plan)
    assert receipt.removed["states"]["after"] == plan.kept
    assert sum(layer.n_states for layer in find_layers(model).values()) == plan.kept


@every_kind
@every_criterion
def test_the_same_budget_twice_removes_nothing_more(kind, criterion):
    model = make_model(kind)
    budget = ssmith.Budget(states=0.4)
    first = ssmith.plan(model, criterion, budget)
    ssmith.prune_(model, first, mode="mask")
    second = ssmith.plan(model, criterion, budget)
    for name, mask in first.keep.items():
        assert torch.equal(second.keep[name], mask)


@every_kind
@every_criterion
def test_a_larger_budget_keeps_a_subset(kind, criterion):
    model = make_model(kind)
    more = ssmith.plan(model, criterion, ssmith.Budget(states=0.25))
    less = ssmith.plan(model, criterion, ssmith.Budget(states=0.6))
    for name, mask in less.keep.items():
        assert bool((mask <= more.keep[name]).all())


@every_kind
@every_criterion
def test_a_plan_comes_back_from_its_file(kind, criterion, tmp_path):
    model = make_model(kind)
    plan = ssmith.plan(model, criterion, ssmith.Budget(states=0.5))
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    one, other = copy.deepcopy(model), copy.deepcopy(model)
    first, second = ssmith.prune_(one, plan), ssmith.prune_(other, again)
    assert first.model["digest_after"] == second.model["digest_after"]


@every_kind
@pytest.mark.parametrize("criterion", CRITERIA[:-1], ids=lambda item: item.label)
def test_scores_follow_the_states_wherever_they_stand(kind, criterion):
    model = make_model(kind)
    before = ssmith.score(model, criterion).values
    orders = {name: permute_(layer, 5) for name, layer in find_layers(model).items()}
    after = ssmith.score(model, criterion).values
    for name, order in orders.items():
        assert_close("scores", after[name].reshape(-1), before[name].reshape(-1)[order])


@every_kind
@every_criterion
def test_a_float32_model_is_scored_as_its_float64_copy(kind, criterion):
    model = make_model(kind, dtype=torch.float32)
    wide = copy.deepcopy(model).double()
    for name, values in ssmith.score(model, criterion).values.items():
        assert torch.equal(values, ssmith.score(wide, criterion).values[name])
