"""Refitting layer after layer: each cut layer is fitted on what it really gets."""

import copy

import pytest
import torch

import ssmith as sm
from helpers.models import KINDS, Kind, make_model
from helpers.parts import make_part
from helpers.plans import random_plan
from ssmith.families import find_layers, tapped

LENGTHS = [30, 21, 30, 8]


def outputs(model, part):
    """Every layer's output at the valid steps."""
    with tapped(model) as tap, torch.no_grad():
        model(part.x.double(), part.lengths)
    return {
        name: torch.cat([row[:n] for row, n in zip(y, LENGTHS, strict=True)])
        for name, (_, y) in tap.items()
    }


def distance(first, second, part, name):
    """Mean squared distance of a layer's outputs, summed over channels."""
    y, other = outputs(first, part)[name], outputs(second, part)[name]
    return float(((y - other) ** 2).mean(0).sum())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_error_told_is_the_distance_to_the_dense_layers_output(kind):
    model = make_model(kind)
    part = make_part(model, LENGTHS)
    plan, found = sm.refit_by_layer(model, random_plan(model, seed=4, keep=0.6), part)
    cut = copy.deepcopy(model)
    sm.prune_(cut, plan, compensation=found)
    for name, readout in found.readouts.items():
        assert readout.error[1] == pytest.approx(distance(model, cut, part, name), rel=1e-6)


def test_it_changes_neither_model_nor_plan():
    model = make_model(Kind("s5"))
    plan = random_plan(model, seed=4)
    before = copy.deepcopy(model.state_dict())
    other, found = sm.refit_by_layer(model, plan, make_part(model, LENGTHS))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    for name, keep in plan.keep.items():
        assert torch.equal(other.keep[name], keep)
    assert found.settings["fitted"] == "layer by layer"
    assert found.settings["steps"] == sum(LENGTHS)


def test_the_first_layer_is_fitted_as_if_alone_and_later_ones_better_in_place():
    model = make_model(Kind("s5"), seed=3, layers=3, states=(10,) * 3)
    part = make_part(model, LENGTHS)
    plan = random_plan(model, seed=4, keep=0.3)
    once = sm.refit(model, plan, sm.moments(model, part))
    plan, by_layer = sm.refit_by_layer(model, plan, part)
    first, *rest = find_layers(model)
    torch.testing.assert_close(once.readouts[first].C, by_layer.readouts[first].C)
    models = []
    for found in (once, by_layer):
        cut = copy.deepcopy(model)
        sm.prune_(cut, plan, compensation=found)
        models.append(cut)
    # The second layer gets the same input in both models, so least squares cannot lose.
    assert distance(model, models[1], part, rest[0]) < distance(model, models[0], part, rest[0])


@pytest.mark.parametrize("kind", [Kind("s5", bidirectional=True), Kind("s4d_ragged")], ids=str)
def test_choosing_anew_keeps_the_numbers_and_fits_better(kind):
    model = make_model(kind, seed=2)
    part = make_part(model, LENGTHS)
    plan = random_plan(model, seed=4)
    first = next(iter(plan.keep))
    given, there = sm.refit_by_layer(model, plan, part)
    anew, found = sm.refit_by_layer(model, plan, part, criterion=sm.criteria.StateOBS())
    for name, keep in plan.keep.items():
        assert anew.keep[name].shape == keep.shape
        assert int(anew.keep[name].sum()) == int(keep.sum())
    assert found.readouts[first].error[1] <= there.readouts[first].error[1] * (1 + 1e-9)
    assert given.model_digest == anew.model_digest == plan.model_digest


def test_an_emptied_layer_stays_empty():
    model = make_model(Kind("s5"))
    plan = random_plan(model, keep=0.0)
    other, _ = sm.refit_by_layer(
        model, plan, make_part(model, LENGTHS), criterion=sm.criteria.StateOBS()
    )
    assert other.kept == 0


def test_the_spine_with_moments():
    model = make_model(Kind("s5", bidirectional=True), states=(8, 8))
    part = make_part(model, LENGTHS)
    budget = sm.Budget(states=0.5)
    for moments in (sm.moments(model, part), sm.white_moments(model)):
        plan = sm.plan(model, sm.criteria.StateOBS(), budget, moments)
        assert plan.kept == 8
        cut = copy.deepcopy(model)
        receipt = sm.prune_(cut, plan, compensation=sm.refit(model, plan, moments))
        assert receipt.removed["states"]["after"] == 8
    with pytest.raises(sm.SsmithError, match="no moments of layer"):
        sm.plan(model, sm.criteria.StateOBS(), budget)
