"""Laws of planning that hold for every criterion on every kind of layer."""

import copy

import pytest
import torch

import ssmith
from helpers.models import KINDS, make_model
from helpers.orders import permute_
from helpers.tolerances import assert_close
from ssmith.core.plan import Plan
from ssmith.criteria import by_name, names
from ssmith.families import find_layers, modes_of

CRITERIA = [name for name in names() if not by_name(name).needs]

# A criterion sees discrete modes; how they were discretised makes no difference to it.
PLANNED = [kind for kind in KINDS if kind.discretisation == "zoh"]
every_kind = pytest.mark.parametrize("kind", PLANNED, ids=str)
every_criterion = pytest.mark.parametrize("criterion", CRITERIA)


@every_kind
@every_criterion
@pytest.mark.parametrize("share", [0.34, 0.9])
def test_a_plan_meets_its_budget_and_changes_nothing(kind, criterion, share):
    model = make_model(kind)
    before = {name: item.clone() for name, item in model.state_dict().items()}
    budget = ssmith.Budget("state", share, method=criterion)
    plan = ssmith.plan(model, budget)
    (cut,) = plan.cuts
    assert cut.total - cut.kept == budget.removed_of(cut.total)
    assert all(torch.equal(item, before[name]) for name, item in model.state_dict().items())
    receipt = ssmith.prune_(model, plan)
    assert receipt.removed["state"].after == cut.kept
    assert sum(layer.n_states for layer in find_layers(model).values()) == cut.kept


@every_kind
@every_criterion
def test_the_same_budget_twice_removes_nothing_more(kind, criterion):
    model = make_model(kind)
    budget = ssmith.Budget("state", 0.4, method=criterion)
    first = ssmith.plan(model, budget)
    ssmith.prune_(model, first, mode="mask")
    second = ssmith.plan(model, budget)
    for name, mask in first.cuts[0].keep.items():
        assert torch.equal(second.cuts[0].keep[name], mask)


@every_kind
@every_criterion
def test_a_larger_budget_keeps_a_subset(kind, criterion):
    model = make_model(kind)
    more = ssmith.plan(model, ssmith.Budget("state", 0.25, method=criterion))
    less = ssmith.plan(model, ssmith.Budget("state", 0.6, method=criterion))
    for name, mask in less.cuts[0].keep.items():
        assert bool((mask <= more.cuts[0].keep[name]).all())


@every_kind
@every_criterion
def test_a_plan_comes_back_from_its_file(kind, criterion, tmp_path):
    model = make_model(kind)
    plan = ssmith.plan(model, ssmith.Budget("state", 0.5, method=criterion))
    plan.save(tmp_path / "plan.json")
    again = Plan.load(tmp_path / "plan.json")
    one, other = copy.deepcopy(model), copy.deepcopy(model)
    first, second = ssmith.prune_(one, plan), ssmith.prune_(other, again)
    assert first.model.digest_after == second.model.digest_after


@every_kind
@pytest.mark.parametrize("criterion", [name for name in CRITERIA if name != "random"])
def test_scores_follow_the_states_wherever_they_stand(kind, criterion):
    model = make_model(kind)
    before = by_name(criterion)(modes_of(model)).values
    orders = {name: permute_(layer, 5) for name, layer in find_layers(model).items()}
    after = by_name(criterion)(modes_of(model)).values
    for name, order in orders.items():
        assert_close("scores", after[name].reshape(-1), before[name].reshape(-1)[order])


@every_kind
@every_criterion
def test_a_float32_model_is_scored_as_its_float64_copy(kind, criterion):
    model = make_model(kind, dtype=torch.float32)
    wide = copy.deepcopy(model).double()
    for name, values in by_name(criterion)(modes_of(model)).values.items():
        assert torch.equal(values, by_name(criterion)(modes_of(wide)).values[name])
