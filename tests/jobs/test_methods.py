"""Methods by name, with and without refit, in the pilot and in single cuts."""

import copy
import json

import pytest
import torch
from ssmith.jobs.measured import loss_curves
from ssmith.jobs.methods import CANDIDATES, calibration, method_named

from jobs.toy import toy
from ssmith import api
from ssmith.core.budget import Budget
from ssmith.core.errors import InputError
from ssmith.criteria import LAST, Random, StateOBS
from ssmith.data import save_npz
from ssmith.evaluation.metrics import ACCURACY
from ssmith.jobs.pilot.sweep import best_of
from ssmith.jobs.prune import PruneConfig, decide


def test_a_name_says_criterion_and_refit():
    plain, refitted = method_named("LAST"), method_named("Last+Refit")
    assert (plain.criterion, plain.refit, plain.label) == (LAST(), "none", "LAST")
    assert (refitted.criterion, refitted.refit) == (LAST(), "by layer")
    assert refitted.label == "LAST + refit"
    once = method_named("aire+refit-once")
    assert (once.refit, once.label) == ("at once", "AIRE + refit at once")
    assert method_named("state-obs+refit-once").refit == "at once"
    ours = method_named("state_obs")
    assert (ours.criterion, ours.refit) == (StateOBS(weigh="sensitivity"), "in full")
    assert method_named("state-obs+refit").label == "State-OBS + refit"
    assert method_named("aire+refit-full").label == "AIRE + full refit"
    assert ours.label == "State-OBS"
    assert method_named("random+refit", seed=4).criterion == Random(seed=4)
    with pytest.raises(InputError, match="did you mean 'last'"):
        method_named("lasst+refit")


def test_calibration_draws_without_replacement():
    data = toy()
    some = calibration(data, 10, 3)
    assert len(some) == 10
    rows = {tuple(row.flatten().tolist()) for row in data.split("train").x}
    drawn = [tuple(row.flatten().tolist()) for row in calibration(data, 1000, 3).x]
    assert len(drawn) == len(set(drawn)) == len(rows)
    assert set(drawn) == rows
    assert torch.equal(some.x, calibration(data, 10, 3).x)
    assert not torch.equal(some.y, calibration(data, 10, 4).y)


@pytest.mark.parametrize("name", ["state-obs", "aire+refit"])
def test_without_sequences_there_is_no_refit(shelf, name):
    model = api.load(shelf / "model")
    with pytest.raises(InputError, match="refits read-outs on sequences and there are none"):
        decide(model, PruneConfig(ratio=0.5, method=name))


def test_a_refit_brings_the_first_layer_closer(shelf):
    model = api.load(shelf / "model")
    part = calibration(toy())
    plain = decide(model, PruneConfig(ratio=0.5, method="last"))
    refitted = decide(model, PruneConfig(ratio=0.5, method="last"), part)
    assert plain.compensation is None
    for name, keep in plain.plan.keep.items():
        assert torch.equal(refitted.plan.keep[name], keep)
    for readout in refitted.compensation.readouts.values():
        assert readout.error[1] < readout.error[0]


def test_a_plan_from_a_file_can_be_refitted(shelf, tmp_path):
    model = api.load(shelf / "model")
    plan = api.plan(model, LAST(), Budget(states=0.4))
    plan.save(tmp_path / "plan.json")
    found = decide(model, tmp_path / "plan.json", calibration(toy()))
    assert found.plan.kept == plan.kept
    assert set(found.compensation.readouts) == set(plan.keep)


def test_the_best_removes_most_and_the_first_wins_a_tie():
    points = {
        "a": [{"value": 0.9}, {"value": 0.1}, {"value": 0.9}],
        "b": [{"value": 0.9}, {"value": 0.89}, {"value": 0.1}],
        "c": [{"value": 0.95}, {"value": 0.95}, {"value": None}],
    }
    assert best_of(points, 0.9, ACCURACY, 0.02) == "b"
    assert best_of({"c": points["c"], "b": points["b"]}, 0.9, ACCURACY, 0.02) == "c"


@pytest.mark.parametrize("method", ["state-obs", "auto"])
def test_a_pilot_with_refits_is_told_as_it_was_done(start, quick, method, tmp_path):
    receipt = start(quick(method=method, baselines=("last",), fractions=(0.5, 0.75), refine=0))
    curve = receipt.details["curve"]
    ours = "State-OBS"
    expected = [ours, "LAST"]
    if method == "auto":
        expected = [ours, "Balanced truncation", "AIRE", "LAST"]
    assert list(curve["methods"]) == expected
    assert curve["method"] in CANDIDATES
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["model_digest"] == receipt.model["digest_before"]
    assert receipt.parity["passed"]
    if method == "state-obs":
        assert receipt.method["refit"]["fitted"] == "layer by layer"
        assert receipt.method["criterion"]["name"] == "StateOBS"


def test_a_pilot_with_refits_needs_a_train_split(start, quick, tmp_path):
    data = copy.copy(toy())
    splits = {name: part for name, part in data.splits.items() if name != "train"}
    bare = type(data)(name="bare", task=data.task, splits=splits, classes=data.classes)
    save_npz(bare, tmp_path / "bare.npz")
    with pytest.raises(ValueError, match="train"):
        start(quick(method="state-obs"), data=tmp_path / "bare.npz")
    assert not (tmp_path / "out").exists()


def test_auto_does_without_a_train_split_and_says_so(start, quick, tmp_path):
    data = toy()
    splits = {name: part for name, part in data.splits.items() if name != "train"}
    bare = type(data)(name="bare", task=data.task, splits=splits, classes=data.classes)
    save_npz(bare, tmp_path / "bare.npz")
    config = quick(method="auto", baselines=(), fractions=(0.5,), refine=0)
    receipt = start(config, data=tmp_path / "bare.npz")
    assert list(receipt.details["curve"]["methods"]) == ["AIRE", "LAST"]
    assert "no-train-split" in [item["kind"] for item in receipt.findings]


@pytest.mark.parametrize("name", ["state-obs+by-loss", "balanced", "state-obs+no-refit"])
def test_other_methods_cut_as_asked(shelf, name):
    model = api.load(shelf / "model")
    found = decide(model, PruneConfig(ratio=0.5, method=name), calibration(toy()))
    assert found.plan.removed_fraction == pytest.approx(0.5, abs=0.1)
    assert method_named(name).needs_data
    if name == "state-obs+by-loss":
        assert found.plan.criterion["weigh"] == "measured loss"


def test_curves_start_at_no_loss(shelf):
    model = api.load(shelf / "model")
    method, part = method_named("state-obs"), calibration(toy())
    prepared = method.prepare(model, part)
    curves = loss_curves(model, prepared.scores, prepared.moments, part)
    for name, keep in prepared.scores.values.items():
        counts = [count for count, _ in curves[name]]
        assert counts == sorted(set(counts))
        assert (counts[0], counts[-1]) == (0, keep.numel())
        assert curves[name][-1][1] == pytest.approx(0, abs=1e-6)
        assert curves[name][0][1] > 1e-4
    with pytest.raises(InputError, match=r"shares are \[2\]"):
        loss_curves(model, prepared.scores, prepared.moments, part, shares=[2])
