"""Methods for states of S5 and S4D: by name, with and without refit, alone and in a pilot."""

import copy
import json

import pytest

from jobs.toy import toy
from ssmith import api
from ssmith.core.budget import Budget
from ssmith.core.curve import Limit, Point
from ssmith.core.errors import InputError
from ssmith.criteria import LAST, Random, StateOBS
from ssmith.data import save_npz
from ssmith.jobs.pilot.cut import CANDIDATES
from ssmith.spine.lti import StatePlanner, method_of
from ssmith.spine.measured import loss_curves


def method(name, **how):
    return method_of(Budget("state", 0.5, method=name, **how), has_data=True)


def test_a_budget_says_criterion_and_refit():
    plain, refitted = method("LAST"), method("Last", compensate="readout")
    assert (plain.criterion, plain.refit, plain.label) == (LAST(), "none", "LAST")
    assert (refitted.criterion, refitted.refit) == (LAST(), "readout")
    assert refitted.label == "LAST + refit"
    once = method("aire", compensate="once")
    assert (once.refit, once.label) == ("once", "AIRE + refit at once")
    ours = method("state_obs")
    assert (ours.criterion, ours.refit) == (StateOBS(weigh="sensitivity"), "full")
    assert ours.label == "State-OBS"
    assert method("state-obs", compensate="none").label == "State-OBS without refit"
    assert method("random", seed=4).criterion == Random(seed=4)
    with pytest.raises(InputError, match="did you mean 'last'"):
        method("lasst")


def test_without_rows_there_is_no_refit(shelf):
    model = api.load(shelf / "model")
    with pytest.raises(InputError, match="fitted to data, and there is none"):
        StatePlanner(model, method("aire", compensate="readout"), None)


def test_curves_start_at_no_loss(shelf):
    model, part = api.load(shelf / "model"), toy().split("train")
    planner = StatePlanner(model, method("state-obs"), part)
    curves = loss_curves(model, planner.scores, planner.moments, part)
    for name, keep in planner.scores.values.items():
        counts = [count for count, _ in curves[name]]
        assert counts == sorted(set(counts))
        assert (counts[0], counts[-1]) == (0, keep.numel())
        assert curves[name][-1][1] == pytest.approx(0, abs=1e-6)
        assert curves[name][0][1] > 1e-4
    with pytest.raises(InputError, match=r"shares are \[2\]"):
        loss_curves(model, planner.scores, planner.moments, part, shares=[2])


def test_the_best_removes_most_and_the_first_wins_a_tie():
    points = {
        "a": [{"value": 0.9}, {"value": 0.1}, {"value": 0.9}],
        "b": [{"value": 0.9}, {"value": 0.89}, {"value": 0.1}],
        "c": [{"value": 0.95}, {"value": 0.95}, {"value": None}],
    }
    swept = {
        name: [Point(sparsity=0.0, **item) for item in items] for name, items in points.items()
    }
    limit = Limit(dense=0.9, higher_is_better=True, tolerance=0.02)
    assert limit.best_of(swept) == "b"
    assert limit.best_of({"c": swept["c"], "b": swept["b"]}) == "c"


@pytest.mark.parametrize("method", ["state-obs", "auto"])
def test_a_pilot_with_refits_is_told_as_it_was_done(start, quick, method, tmp_path):
    receipt = start(quick(method=method, baselines=("last",), sparsities=(0.5, 0.75), refine=0))
    curve = receipt.as_dict()["details"]["curve"]
    ours = "State-OBS"
    expected = [ours, "LAST"]
    if method == "auto":
        expected = [ours, "Balanced truncation", "AIRE", "LAST"]
    assert list(curve["methods"]) == expected
    assert curve["method"] in CANDIDATES
    plan = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert plan["model_digest"] == receipt.model.digest_before
    assert receipt.parity.passed
    if method == "state-obs":
        assert receipt.method.refit["fitted"] == "layer by layer"
        assert receipt.method.criterion["name"] == "State-OBS"


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
    config = quick(method="auto", baselines=(), sparsities=(0.5,), refine=0)
    receipt = start(config, data=tmp_path / "bare.npz")
    assert list(receipt.as_dict()["details"]["curve"]["methods"]) == ["AIRE", "LAST"]
    assert "no-train-split" in [item.kind for item in receipt.findings]
