"""The law of plans: what a plan says is what comes of a model, for every unit and remedy."""

import copy
import dataclasses
import json
from functools import cache

import pytest
import torch

import ssmith as sm
from helpers.every_unit import build
from helpers.grouped import FAMILIES as FAMILIES_OF_GROUPS
from helpers.models import FAMILIES, make_input, make_model
from helpers.parts import make_part
from helpers.selective import windows_of
from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import tiny, tokens
from ssmith.core.errors import PlanError, SsmithError, UnsupportedError
from ssmith.core.plan import Plan
from ssmith.core.unit import MODES
from ssmith.families import model_digest, sites
from ssmith.families.hf.double import in_double

S5_S4D = [
    {"method": "last"},
    {"method": "last", "compensate": "once"},
    {"method": "last", "compensate": "readout"},
    {"method": "state-obs"},
    {"method": "state-obs", "compensate": "white"},
    {"method": "balanced"},
]
SELECTIVE = {
    "state": [sm.Budget("state", 0.4, method="output-energy")],
    "state, new C and D": [sm.Budget("state", 0.4)],
    "state, new B, C, D, h, y": [sm.Budget("state", 0.4, compensate="BCDhy")],
    "entry": [sm.Budget("entry", 0.5, method="output-energy")],
    "entry, new D": [sm.Budget("entry", 0.5)],
    "entry, new offsets": [sm.Budget("entry", 0.5, compensate="hy", semantics="fast-decay")],
    "weight": [sm.Budget("weight", 0.5, method="wanda")],
    "weight, new weights": [sm.Budget("weight", "2:5", targets=("in_proj", "out_proj"))],
    "all": [sm.Budget("state", 0.4), sm.Budget("entry", 0.3), sm.Budget("weight", 0.3)],
    "block": [sm.Budget("block", 1)],
    "block and state": [sm.Budget("block", 1), sm.Budget("state", 0.4)],
}
# Falcon's norms over states bar new rows of C; of Jamba one block is not like the others.
BARRED = {
    ("falcon_mamba", "state, new B, C, D, h, y"), ("jamba", "state, new B, C, D, h, y"),
    ("jamba", "block"), ("jamba", "block and state"),
}  # fmt: skip
CASES = [
    (name, what)
    for name in ("mamba", "falcon_mamba", "jamba")
    for what in SELECTIVE
    if (name, what) not in BARRED
]


GROUPED = {
    "state": sm.Budget("state", 0.5, method="output-energy"),
    "state, new output maps": sm.Budget("state", 0.5),
    "state, projected": sm.Budget("state", 0.5, method="balanced"),
    "state, projected, new output maps": sm.Budget("state", 0.5, method="balanced", compensate="O"),
}


# Two windows are two batches; two layers are one that others feed on.
WINDOWS, LONGER = windows_of(2, 12), windows_of(2, 20)


def language_model(name):
    return copy.deepcopy(_language_model(name))


@cache
def _language_model(name):
    return (tiny_hybrid if name == "jamba" else tiny)(name, dtype=torch.float64)


@cache
def plan_of(name, what):
    """A plan for a language model that several tests follow."""
    return sm.plan(_language_model(name), SELECTIVE[what], WINDOWS)


def logits(model):
    with torch.no_grad(), in_double(model) as wide:
        return wide(input_ids=tokens(2, 9), use_cache=False).logits


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(first, second):
    one, other = first.state_dict(), second.state_dict()
    assert set(one) == set(other)
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def cut_by(model, plan, mode=None):
    other = copy.deepcopy(model)
    sm.prune_(other, plan, mode)
    return other


def assert_law(dense, plan, place):
    """A plan is all there is: it makes one model, whoever reads it, from wherever."""
    before = state_of(dense)
    first, second = cut_by(dense, plan), cut_by(dense, plan)
    assert_equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in dense.state_dict().items())
    assert model_digest(first) == model_digest(second) != model_digest(dense)
    plan.save(place)
    again = Plan.load(place)
    assert plan.diff(again) == again.diff(plan) == ()
    assert_equal(first, cut_by(dense, again))
    return first


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
@pytest.mark.parametrize("settings", S5_S4D, ids=str)
def test_of_states_of_s5_and_s4d(kind, settings, tmp_path):
    dense = make_model(kind, options={"step_rescale": 3.0})
    plan = sm.plan(dense, sm.Budget("state", 0.5, **settings), make_part(dense, [30, 21, 30, 8]))
    shrunk = assert_law(dense, plan, tmp_path)
    masked, x = cut_by(dense, plan, "mask"), make_input(dense)
    with torch.no_grad():
        torch.testing.assert_close(masked(x), shrunk(x), rtol=0, atol=1e-11)
        assert (shrunk(x) - dense(x)).abs().max() > 1e-6


@pytest.mark.parametrize(("name", "what"), CASES)
def test_of_every_unit_of_language_models(name, what, tmp_path):
    dense = language_model(name)
    plan = plan_of(name, what)
    cut = assert_law(dense, plan, tmp_path)
    assert (logits(cut) - logits(dense)).abs().max() > 1e-6
    # What was refitted is the very thing that a second plan for the same model finds.
    assert plan.diff(sm.plan(dense, SELECTIVE[what], WINDOWS)) == ()
    modes = [
        set(table.modes)
        for site in sites(dense).values()
        for table in site.couplings
        if table.unit in {item.unit for item in plan.cuts}
    ]
    both = modes and set(MODES) == set.intersection(*modes)
    if both and "block" not in what:
        shrunk, masked = cut_by(dense, plan, "shrink"), cut_by(dense, plan, "mask")
        torch.testing.assert_close(logits(masked), logits(shrunk), rtol=0, atol=1e-9)


@pytest.mark.parametrize("what", GROUPED)
@pytest.mark.parametrize("name", FAMILIES_OF_GROUPS)
def test_of_states_of_groups(name, what, tmp_path):
    dense = build(name)
    plan = sm.plan(dense, GROUPED[what], LONGER)
    cut = assert_law(dense, plan, tmp_path)
    assert (logits(cut) - logits(dense)).abs().max() > 1e-6
    assert plan.diff(sm.plan(dense, GROUPED[what], LONGER)) == ()
    if "projected" in what:
        with pytest.raises(UnsupportedError, match="projected states cannot be masked"):
            sm.prune_(copy.deepcopy(dense), plan, "mask")
    else:
        masked = cut_by(dense, plan, "mask")
        torch.testing.assert_close(logits(masked), logits(cut), rtol=0, atol=1e-9)


def test_what_stock_code_would_leave_out_runs_as_soon_as_it_is_there():
    dense, ids = language_model("mamba"), tokens(2, 9)
    plan = sm.plan(dense, sm.Budget("entry", 0.5, compensate="hy"), WINDOWS)
    cut = cut_by(dense, plan)
    silent = copy.deepcopy(cut)
    for part in silent.modules():
        for name in ("state_offset", "output_offset"):
            if name in part._buffers:
                part._buffers[name].zero_()
    with torch.no_grad():
        gap = cut(input_ids=ids).logits - silent(input_ids=ids).logits
    assert gap.abs().max() > 1e-9


@pytest.mark.parametrize("what", SELECTIVE)
def test_modes_that_a_unit_has_not_are_refused(what):
    dense = language_model("mamba")
    plan = plan_of("mamba", what)
    units = {cut.unit for cut in plan.cuts}
    wrong = [mode for mode, bars in (("shrink", {"entry", "weight"}), ("mask", {"block"}))
             if units & bars]  # fmt: skip
    before = model_digest(dense)
    for mode in wrong:
        with pytest.raises(UnsupportedError, match=f"mode='{mode}'"):
            sm.prune_(dense, plan, mode)
        assert model_digest(dense) == before
    for mode in set(MODES) - set(wrong):
        cut_by(dense, plan, mode)


@pytest.mark.parametrize("unit", ["state", "entry", "weight"])
def test_a_plan_edited_by_hand_is_followed(unit, tmp_path):
    dense = language_model("mamba")
    plan = sm.plan(dense, sm.Budget(unit, 0.4, method="magnitude"), WINDOWS)
    plan.save(tmp_path)
    content = json.loads((tmp_path / "plan.json").read_text())
    name, site = list(content["cuts"][0]["sites"].items())[-1]
    rows = [[0, 2] for _ in range(site["grid"][0])]
    site["keep"] = [0, 1, 4] if unit == "state" else rows
    (tmp_path / "plan.json").write_text(json.dumps(content))
    edited = Plan.load(tmp_path)
    keep = torch.zeros(site["grid"], dtype=torch.bool)
    keep[..., site["keep"] if unit == "state" else [0, 2]] = True
    assert torch.equal(edited.cut(unit).keep[name], keep)
    (line,) = plan.diff(edited)
    assert line.startswith(f"{name}: ")
    cut = cut_by(dense, edited)
    wanted = dataclasses.replace(
        plan, cuts=(dataclasses.replace(plan.cuts[0], keep={**plan.cut(unit).keep, name: keep}),)
    )
    assert_equal(cut, cut_by(dense, wanted))
    mixer, _, part = name.partition(".mixer")
    module = cut.get_submodule(f"{mixer}.mixer")
    if unit == "state":
        own = dense.get_submodule(f"{mixer}.mixer").A_log
        assert torch.equal(module.A_log, own[:, [0, 1, 4]])
    if unit == "weight":
        weight = module.get_parameter(part.removeprefix("."))
        assert not bool(weight.reshape(keep.shape)[~keep].any())


def other_model(plan):
    return tiny("mamba", dtype=torch.float64, seed=7), plan


def other_size(plan):
    model = tiny("mamba", dtype=torch.float64, state_size=6)
    return model, dataclasses.replace(plan, model_digest=model_digest(model))


def fewer_layers(plan):
    model = tiny("mamba", dtype=torch.float64, num_hidden_layers=1)
    return model, dataclasses.replace(plan, model_digest=model_digest(model))


@pytest.mark.parametrize("other", [other_model, other_size, fewer_layers])
@pytest.mark.parametrize("what", SELECTIVE)
def test_plans_of_another_model_leave_it_as_it_was(other, what):
    model, plan = other(plan_of("mamba", what))
    before = state_of(model)
    if other is other_size and what in ("weight", "weight, new weights", "block"):
        pytest.skip("weights and blocks of that size are there")
    with pytest.raises(PlanError):
        sm.prune_(model, plan)
    after = model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_every_refusal_is_ours():
    with pytest.raises(SsmithError):
        sm.prune_(torch.nn.Linear(2, 2), Plan(cuts=(), model_digest="0" * 64))
