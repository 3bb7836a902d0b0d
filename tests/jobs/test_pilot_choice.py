"""Which cut is chosen: the rule, by brute force; what it looks at; and what it refuses."""

import copy
import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.unchecked import build
from jobs.toy import QUICK, stage, toy
from ssmith import api, spine
from ssmith.core.budget import Budget
from ssmith.core.curve import Limit, Point, between
from ssmith.core.errors import InputError, NumericalError
from ssmith.core.sequences import Sequences
from ssmith.core.settings import from_mapping
from ssmith.criteria import Random
from ssmith.data import save_npz
from ssmith.evaluation import predict, verbs
from ssmith.families import modes_of
from ssmith.jobs.pilot import PilotConfig, pilot


def accuracy_of_cut(shelf, method, sparsity, scope="auto"):
    """Accuracy on selection, written anew: mask instead of shrink, count instead of metric."""
    model, part = api.load(shelf / "model"), toy().split("selection")
    plan = spine.plan(model, Budget("state", sparsity, method=method, scope=scope))
    api.prune_(model, plan, "mask")
    right = predict(model, part, 7).argmax(1) == part.y
    return int(right.sum()) / len(part), plan.cuts[0].sparsity


def test_the_chosen_cut_obeys_the_rule(finished, shelf):
    out, receipt = finished
    curve = receipt.as_dict()["details"]["curve"]
    dense, _ = accuracy_of_cut(shelf, "last", 0.0)
    assert curve["dense"]["value"] == dense
    assert (curve["split"], curve["count"]) == ("selection", 80)
    coarse = {f: accuracy_of_cut(shelf, "last", f)[0] for f in QUICK.sparsities}
    within_all = [
        f for f in coarse if all(dense - coarse[g] <= 0.05 + 1e-9 for g in coarse if g <= f)
    ]
    last = max(within_all, default=0.0)
    beyond = min(f for f in coarse if f > last)
    # Two more, evenly between the last that is within tolerance and the first that is not.
    finer = [round(last + (beyond - last) * k / 3, 6) for k in (1, 2)]
    measured = coarse | {f: accuracy_of_cut(shelf, "last", f)[0] for f in finer}
    good = [
        f for f in measured if all(dense - measured[g] <= 0.05 + 1e-9 for g in measured if g <= f)
    ]
    assert curve["point"]["sparsity"] == max(good)
    assert curve["point"]["value"] == measured[max(good)]
    assert {p["sparsity"]: p["value"] for p in curve["methods"]["LAST"]} == measured
    assert [stage(out, f"refine-last-{f:g}")["sparsity"] for f in finer] == finer


@pytest.mark.parametrize(
    ("label", "method", "scope"),
    [("Global magnitude", "magnitude-global", "global"), ("Random", "random", "auto")],
)
def test_baselines_are_measured_at_the_same_cuts(finished, shelf, label, method, scope):
    points = finished[1].as_dict()["details"]["curve"]["methods"][label]
    assert [point["sparsity"] for point in points] == list(QUICK.sparsities)
    for point in points:
        expected = accuracy_of_cut(shelf, method, point["sparsity"], scope)
        assert (point["value"], point["removed"]) == expected
        assert point["low"] <= point["value"] <= point["high"]


def test_the_test_split_is_not_read_before_the_end(start, quick, shelf, tmp_path, finished):
    draw = torch.Generator().manual_seed(9)
    garbage = Sequences(
        x=100 * torch.randn(30, 24, 1, generator=draw),
        lengths=torch.full((30,), 24),
        y=torch.randint(0, 2, (30,), generator=draw),
    )
    save_npz(toy(test=garbage), tmp_path / "garbage.npz")
    receipt = start(data=tmp_path / "garbage.npz")
    assert receipt.as_dict()["details"]["curve"] == finished[1].as_dict()["details"]["curve"]
    assert (tmp_path / "out" / "plan.json").read_bytes() == (finished[0] / "plan.json").read_bytes()
    assert receipt.quality.count == 30
    assert receipt.quality.before != finished[1].quality.before


def test_another_selection_split_can_change_the_choice(start, quick, shelf, tmp_path):
    # Proof that the test above can fail: labels turned round, every cut looks better than dense.
    part = toy().split("selection")
    turned = dataclasses.replace(part, y=1 - part.y)
    save_npz(toy(selection=turned), tmp_path / "turned.npz")
    receipt = start(quick(baselines=()), data=tmp_path / "turned.npz")
    assert receipt.as_dict()["details"]["curve"]["point"]["sparsity"] == max(QUICK.sparsities)
    assert not list((tmp_path / "out" / "stages").glob("refine-*"))


def test_each_criterion_is_measured_once_whatever_its_names(start, quick):
    how = quick(method="LAST", baselines=("last", "random", "Random"), sparsities=(0.9, 0.25))
    curve = start(how).as_dict()["details"]["curve"]
    assert list(curve["methods"]) == ["LAST", "Random"]
    assert curve["point"] in curve["methods"][curve["chosen"]]
    sparsities = [point["sparsity"] for point in curve["methods"]["LAST"]]
    assert sparsities == sorted(sparsities)


def test_the_random_criterion_takes_the_seed(start, quick, shelf):
    how = quick(method="random", baselines=(), sparsities=(0.5,), max_loss=0.99, seed=7)
    layers = start(how).as_dict()["details"]["layers"]
    expected = Random(seed=7)(modes_of(api.load(shelf / "model"))).values
    assert {item["name"]: item["scores"] for item in layers} == {
        name: values.tolist() for name, values in expected.items()
    }


POINTS = st.lists(st.floats(0, 1), max_size=6)


@given(values=POINTS, dense=st.floats(0, 1), max_loss=st.floats(0, 1), higher=st.booleans())
def test_within_counts_the_run_of_good_points(values, dense, max_loss, higher):
    losses = [(dense - value) if higher else (value - dense) for value in values]
    bad = [i for i, loss in enumerate(losses) if loss > max_loss + 1e-12]
    points = [Point(sparsity=0.0, value=value) for value in values]
    limit = Limit(dense=dense, higher_is_better=higher, tolerance=max_loss)
    assert limit.within(points) == min(bad, default=len(values))


def test_a_point_that_was_not_measured_is_not_within():
    points = [Point(sparsity=0.0, value=value) for value in (0.9, None, 0.9)]
    assert Limit(dense=0.9, higher_is_better=True, tolerance=1.0).within(points) == 1


@pytest.mark.parametrize(
    ("sparsities", "good", "count", "expected"),
    [
        ((0.2, 0.4), 1, 3, [0.25, 0.3, 0.35]),
        ((0.2, 0.4), 0, 1, [0.1]),
        ((0.2, 0.4), 2, 3, []),
        ((0.2, 0.4), 1, 0, []),
    ],
)
def test_between(sparsities, good, count, expected):
    assert between(sparsities, good, count) == expected


def explode_when_cut(monkeypatch, below):
    """Let the outputs of every model with fewer states be infinite, as an overflow would."""
    real = verbs.outcomes_of

    def seen(task, model, part, *, batch_size=None):
        states = sum(layer.n_states for layer in api.families.find_layers(model).values())
        if states < below:
            raise NumericalError("the outputs of 3 of 80 sequences are not finite")
        return real(task, model, part, batch_size=batch_size)

    monkeypatch.setattr(verbs, "outcomes_of", seen)


def test_a_cut_whose_outputs_are_not_finite_is_a_failed_point(start, quick, monkeypatch):
    explode_when_cut(monkeypatch, below=6)
    receipt = start(quick(max_loss=0.99, refine=0), report=True)
    curve = receipt.as_dict()["details"]["curve"]
    for points in curve["methods"].values():
        failed = [point for point in points if point["value"] is None]
        assert [point["sparsity"] for point in failed] == [0.75, 0.95]
        assert all("not finite" in point["why"] for point in failed)
        assert all(point["removed"] > 0.7 for point in failed)
    assert curve["point"]["sparsity"] == 0.6
    messages = [item.message for item in receipt.findings if item.kind == "not-measured"]
    assert len(messages) == 6
    assert "LAST, 0.75 removed: the outputs of 3 of 80 sequences are not finite" in messages


def test_the_report_shows_what_could_not_be_measured(start, quick, monkeypatch, tmp_path):
    explode_when_cut(monkeypatch, below=6)
    start(quick(max_loss=0.99, refine=0, baselines=()), report=True)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "LAST, 0.95 removed: the outputs of 3 of 80 sequences are not finite" in page
    rows = (tmp_path / "out" / "plots" / "quality.csv").read_text().splitlines()
    assert sum(row.startswith("LAST,") for row in rows) == 3


def test_if_every_cut_fails_nothing_is_cut(start, quick, monkeypatch):
    explode_when_cut(monkeypatch, below=16)
    receipt = start(quick(max_loss=0.99, refine=0, baselines=()))
    assert not receipt.verdict.accepted
    assert "could not be measured" in receipt.verdict.headline


def test_a_dense_model_that_is_not_finite_stops_the_pilot(start, monkeypatch):
    explode_when_cut(monkeypatch, below=17)
    with pytest.raises(NumericalError, match="not finite"):
        start()


def test_a_cut_into_protected_states_is_a_failed_point(shelf, quick, tmp_path, monkeypatch):
    model = copy.deepcopy(api.load(shelf / "model"))
    # Eigenvalues with a positive real part grow: unstable, so never scored nor cut.
    with torch.no_grad():
        for layer in api.families.find_layers(model).values():
            layer.Lambda_re[:4] = 1e-4
    monkeypatch.setattr("ssmith.jobs.pilot.run.write_report", lambda *_: None)
    rows = {name: item for name, item in toy().splits.items() if name in ("selection", "test")}
    receipt = pilot(model, rows, tmp_path / "out", quick(baselines=(), sparsities=(0.25, 0.75)))
    first, *_, second = receipt.as_dict()["details"]["curve"]["methods"]["LAST"]
    assert math.isfinite(first["value"])
    assert second["value"] is None
    assert "protected" in second["why"]


@pytest.mark.parametrize(
    "change",
    [
        {"sparsities": ()},
        {"sparsities": (0.0,)},
        {"sparsities": (1.0,)},
        {"sparsities": (0.1, -0.1)},
        {"sparsities": (math.nan,)},
        {"sparsities": ("half",)},
        {"refine": -1},
        {"refine": 1.5},
        {"max_loss": -0.1},
        {"max_loss": math.inf},
        {"max_loss": math.nan},
        {"own_max_loss": -1.0},
        {"max_loss": 5},
        {"max_loss": "5"},
        {"max_loss": "one point"},
        {"seed": -1},
        {"seed": True},
        {"batch_size": 0},
        {"threads": 0},
        {"threads": 1.5},
        {"speed_seconds": 0.0},
        {"speed_seconds": math.inf},
        {"price_per_hour": -1.0},
        {"price_per_hour": math.inf},
        {"sequences_per_day": math.nan},
        {"proof": "yes"},
    ],
    ids=str,
)
def test_settings_outside_their_domain_are_refused(change):
    with pytest.raises(InputError):
        build(PilotConfig, **change)


def test_settings_are_json():
    for config in (PilotConfig(), QUICK):
        content = json.loads(json.dumps(config.as_dict(), allow_nan=False))
        assert from_mapping(PilotConfig, content, where="pilot") == config
