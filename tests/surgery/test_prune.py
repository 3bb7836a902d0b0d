"""Applying a plan: all of it or nothing, with a receipt that counts what is there."""

import copy
import dataclasses
import json

import pytest
import torch

from helpers.models import FAMILIES, KINDS, Kind, make_input, make_model
from helpers.plans import plan_for, random_plan
from helpers.unchecked import unchecked
from ssmith.core.errors import InputError, PlanError, UnsupportedError
from ssmith.core.plan import Plan
from ssmith.core.sections import CutMade, MethodSection
from ssmith.core.unit import MODES
from ssmith.families import describe, find_layers, model_digest
from ssmith.surgery import check_fits, prune_


def snapshot(model):
    return {name: item.clone() for name, item in model.state_dict().items()}


def assert_untouched(model, before):
    after = model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], item) for name, item in before.items())


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_the_receipt_counts_what_is_there(kind, mode):
    model = make_model(kind)
    before = copy.deepcopy(model)
    plan = random_plan(model, seed=5)
    receipt = prune_(model, plan, mode)
    (cut,) = plan.cuts
    kept = sum(int(mask.sum()) for mask in cut.keep.values())
    removed = receipt.removed["state"]
    assert (removed.before, removed.after) == (cut.total, kept)
    assert removed.fraction == pytest.approx(1 - kept / cut.total)
    assert receipt.model.digest_before == model_digest(before) == plan.model_digest
    assert receipt.model.digest_after == model_digest(model)
    made = CutMade(unit="state", method=cut.method, budget=cut.budget, semantics="remove")
    assert receipt.method == MethodSection(cuts=(made,), mode=mode)
    parameters = receipt.size.parameters
    assert parameters.before == sum(item.numel() for item in before.parameters())
    assert parameters.after == sum(item.numel() for item in model.parameters())
    tensors = receipt.size.tensor_bytes
    assert tensors.after == sum(
        item.numel() * item.element_size() for item in model.state_dict().values()
    )
    assert (tensors.after < tensors.before) == (mode == "shrink")
    assert json.loads(receipt.to_json())["action"] == "prune"


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_shrinking_removes_exactly_the_parameters_of_the_states(kind):
    model = make_model(kind)
    before = sum(item.numel() for item in model.parameters())
    plan = random_plan(model, seed=5)
    prune_(model, plan, "shrink")
    removed = plan.cuts[0].total - plan.cuts[0].kept
    branches = 2 if kind.bidirectional else 1
    # S5: λ (2), a row of B, a column per read-out, its step. S4D: λ (2), one entry per read-out.
    each = 3 + 2 * 3 + branches * 2 * 3 if kind.family == "s5" else 2 + 2 * branches
    assert before - sum(item.numel() for item in model.parameters()) == removed * each
    assert model.config == model.current_config()
    for info in describe(model):
        assert info.masked == {"state": 0}


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_masking_keeps_every_parameter_and_says_what_is_off(kind):
    model = make_model(kind)
    before = dict(model.named_parameters())
    plan = random_plan(model, seed=5)
    prune_(model, plan, "mask")
    for name, item in model.named_parameters():
        assert item is before[name]
    for info in describe(model):
        mask = plan.cuts[0].keep[info.name]
        assert info.units["state"] == mask.numel()
        assert info.masked["state"] == int((~mask).sum())
    for name, layer in find_layers(model).items():
        assert torch.equal(layer.modes(name).present, plan.cuts[0].keep[name].reshape(-1))


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_training_goes_on_after_a_cut(kind, mode):
    model = make_model(kind)
    model.get_parameter("blocks.0.ssm.D").requires_grad_(False)
    name = "blocks.0.ssm.A_imag" if kind.family != "s5" else "blocks.0.ssm.Lambda_im"
    model.get_parameter(name).requires_grad_(False)
    prune_(model, random_plan(model, seed=5), mode)
    assert not model.get_parameter(name).requires_grad
    assert all(item.is_leaf for item in model.parameters())
    model(make_input(model)).sum().backward()
    assert model.get_parameter("head.weight").grad is not None


def other_layers(model):
    plan = random_plan(model)
    (_, mask), *rest = plan.cuts[0].keep.items()
    return plan_for(model, {"blocks.9.ssm": mask, **dict(rest)})


def other_shape(model):
    plan = random_plan(model)
    name = list(plan.cuts[0].keep)[-1]
    return plan_for(model, {**plan.cuts[0].keep, name: torch.ones(99, dtype=torch.bool)})


def other_unit(model):
    return plan_for(model, random_plan(model).cuts[0].keep, unit="head")


def other_values(model):
    value = torch.zeros(99, dtype=torch.float64)
    return dataclasses.replace(random_plan(model), values={"blocks.1.ssm.D": value})


def values_elsewhere(model):
    return dataclasses.replace(random_plan(model), values={"head.weight": model.head.weight})


def other_weights(model):
    return plan_for(model, random_plan(model).cuts[0].keep, model_digest="0" * 64)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (other_layers, r"state of blocks\.9\.ssm, which the model does not have"),
        (other_shape, r"state of grid \(99,\)"),
        (other_unit, "no head"),
        (other_weights, "000000000000…"),
        (other_values, r"new value of D is torch\.float64 \(99,\)"),
        (values_elsewhere, r"new value for head\.weight, and cuts nothing there"),
    ],
)
@pytest.mark.parametrize("kind", FAMILIES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_a_plan_that_does_not_fit_changes_nothing(kind, wrong, words, mode):
    model = make_model(kind)
    before = snapshot(model)
    with pytest.raises((PlanError, UnsupportedError), match=words) as caught:
        prune_(model, wrong(model), mode)
    assert "\n" not in str(caught.value)
    assert_untouched(model, before)


def test_other_weights_may_be_forced():
    model = make_model(Kind("s5"))
    prune_(model, other_weights(model), check_weights=False)
    assert sum(layer.n_states for layer in find_layers(model).values()) < 12


def test_an_unknown_mode_changes_nothing():
    model = make_model(Kind("s5"))
    before = snapshot(model)
    with pytest.raises(InputError, match=r"'crush'.*shrink, mask"):
        unchecked(prune_)(model, random_plan(model), "crush")
    assert_untouched(model, before)


def test_a_model_without_state_space():
    model = make_model(Kind("s5"))
    with pytest.raises(PlanError, match="a model with layers that can be cut"):
        prune_(torch.nn.Linear(2, 2), random_plan(model), check_weights=False)
    with pytest.raises(PlanError, match="the model the plan was made for"):
        prune_(torch.nn.Linear(2, 2), random_plan(model))


def test_a_layer_inside_any_module_is_found_and_cut():
    inner = make_model(Kind("s5"))
    wrapper = torch.nn.ModuleDict({"body": inner, "other": torch.nn.Linear(2, 2)})
    names = list(find_layers(wrapper))
    assert names == ["body.blocks.0.ssm", "body.blocks.1.ssm"]
    plan = random_plan(wrapper, seed=1)
    prune_(wrapper, plan, "shrink")
    assert [layer.n_states for layer in find_layers(wrapper).values()] == [
        int(plan.cuts[0].keep[name].sum()) for name in names
    ]


def test_check_fits_returns_the_layers():
    model = make_model(Kind("s4d"))
    (cut,) = random_plan(model).cuts
    assert check_fits(model, cut) == find_layers(model)
    fewer = dict(list(cut.keep.items())[1:])
    assert list(check_fits(model, dataclasses.replace(cut, keep=fewer))) == list(fewer)
    with pytest.raises(PlanError, match=r"not there: \['other'\]"):
        check_fits(model, dataclasses.replace(cut, keep={"other": cut.keep["blocks.0.ssm"]}))


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_layers_that_a_plan_leaves_out_stay_as_they_are(kind):
    model = make_model(kind)
    before = snapshot(model)
    keep = random_plan(model, seed=5).cuts[0].keep
    receipt = prune_(model, plan_for(model, {"blocks.1.ssm": keep["blocks.1.ssm"]}))
    after = model.state_dict()
    untouched = [name for name in before if not name.startswith("blocks.1.ssm.")]
    assert all(torch.equal(after[name], before[name]) for name in untouched)
    assert receipt.removed["state"].after == int(keep["blocks.1.ssm"].sum())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_plan_edited_as_json_is_what_is_applied(kind, tmp_path):
    model = make_model(kind)
    path = tmp_path / "plan.json"
    random_plan(model, seed=5).save(path)
    content = json.loads(path.read_text())
    name = "blocks.1.ssm"
    edited = content["cuts"][0]["sites"][name]
    edited["keep"] = [[] for _ in edited["keep"]] if kind.family == "s4d" else [1]
    if kind.family == "s4d":
        edited["keep"][2] = [3]
    path.write_text(json.dumps(content))
    prune_(model, Plan.load(path))
    layer = find_layers(model)[name]
    assert layer.n_states == 1
    if kind.family == "s4d":
        assert layer.counts() == [0, 0, 1]


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_a_plan_is_refused_after_the_cut_it_made(kind):
    model = make_model(kind)
    plan = random_plan(model, seed=5)
    prune_(model, plan, "shrink")
    with pytest.raises(PlanError, match="the model the plan was made for"):
        prune_(model, plan, "shrink")
    with pytest.raises(PlanError, match="needs a new one"):
        prune_(model, plan, "shrink", check_weights=False)
