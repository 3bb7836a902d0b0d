"""What a pilot leaves, and that every number in it can be measured again."""

import dataclasses
import json
import re

import pytest
import torch

from jobs.toy import contents, toy
from ssmith import api, spine
from ssmith.artefact import WEIGHTS
from ssmith.core.budget import Budget
from ssmith.core.plan import Plan
from ssmith.core.receipt import Receipt
from ssmith.core.sections import Agreement, ModelSection, QualitySection, SizeSection
from ssmith.core.times import Times
from ssmith.criteria import LAST
from ssmith.data import save_npz
from ssmith.evaluation import predict
from ssmith.families import LTIOptions, SequenceConfig, SequenceModel, model_digest, modes_of

REQUIRED = {
    "model", "method", "seed", "versions", "data", "removed", "quality", "speed", "memory",
    "size", "parity", "saving", "verdict",
}  # fmt: skip


@pytest.fixture(scope="module")
def receipt(finished):
    return finished[1]


def settled(receipt):
    """The findings that do not depend on how busy the machine is."""
    return [item for item in receipt.findings if item.kind != "unsettled"]


def test_everything_is_left(finished):
    out, _ = finished
    left = set(contents(out))
    assert {"receipt.json", "report.html", "plan.json"} < left
    assert {"model/model.safetensors", "model/config.json", "model/README.md"} < left
    assert {"model/plan.json", "model/receipt.json", "model/manifest.json"} < left
    assert {"plots/quality.svg", "plots/quality.csv"} < left
    stages = {name for name in left if name.startswith("stages/")}
    criteria = ("last", "magnitude-global", "random")
    assert {f"stages/{name}.json" for name in ("run", "baseline", "measured")} < stages
    assert {f"stages/sweep-{name}-0.25.json" for name in criteria} < stages
    assert not [name for name in left if "/." in f"/{name}"]


def test_the_receipt_on_disk_is_the_one_returned(finished):
    out, receipt = finished
    assert Receipt.load(out / "receipt.json") == receipt
    content = json.loads((out / "receipt.json").read_text())
    assert set(content) >= REQUIRED
    assert all(content[name] not in ({}, None) for name in REQUIRED)


def test_the_receipt_names_model_method_data_and_versions(receipt, shelf):
    assert receipt.model == ModelSection(
        name=str(shelf / "model"),
        family="s5",
        task="classification",
        layers=2,
        digest_before=model_digest(api.load(shelf / "model")),
        digest_after=receipt.model.digest_after,
    )
    assert receipt.method.criterion["name"] == "LAST"
    assert receipt.method.command == ("ssmith", "pilot", "model")
    assert receipt.method.mode == "shrink"
    assert receipt.data.counts == {
        "train": 96, "validation": 40, "selection": 80, "test": 80,
    }  # fmt: skip
    assert re.fullmatch("[0-9a-f]{64}", receipt.data.sha256)
    assert {"ssmith", "python", "torch", "machine"} <= set(receipt.versions)
    states = receipt.removed["state"]
    assert states.fraction == 1 - states.after / states.before > 0
    quality = receipt.as_dict()["quality"]
    assert {"metric", "before", "after", "difference", "p", "p_test", "agreement"} <= set(quality)
    assert quality["split"] == "test"
    assert receipt.speed.per_batch.before > 0
    assert receipt.speed.per_step.after > 0
    gates = {item["gate"] for item in receipt.as_dict()["verdict"]["reasons"]}
    assert gates == {"quality", "base", "parity", "gain"}


def test_parity_holds(receipt):
    worst = receipt.parity.worst
    assert receipt.parity.passed
    assert worst["saved_vs_loaded"] == 0.0
    assert worst["shrunk_vs_masked"] <= 1e-12
    assert worst["step_vs_scan"] <= 1e-10


def test_the_model_on_disk_is_the_plan_applied(finished, shelf):
    out, receipt = finished
    plan = Plan.load(out / "plan.json")
    model = api.load(shelf / "model")
    api.prune_(model, plan, "shrink")
    saved = api.load(out / "model")
    assert model_digest(saved) == model_digest(model) == receipt.model.digest_after
    assert (out / "model" / "plan.json").read_bytes() == (out / "plan.json").read_bytes()
    assert all(check.passed for check in api.verify(out / "model"))
    sparsity = receipt.as_dict()["details"]["curve"]["point"]["sparsity"]
    again = spine.plan(api.load(shelf / "model"), Budget("state", sparsity, method="last"))
    assert not again.diff(plan)


def test_quality_is_that_of_the_two_models_on_test(finished, shelf):
    out, receipt = finished
    test = toy().split("test")
    models = api.load(shelf / "model"), api.load(out / "model")
    right = [predict(model, test).argmax(1) == test.y for model in models]
    quality = receipt.quality
    assert quality.before.value == float(right[0].double().mean())
    assert quality.after.value == float(right[1].double().mean())
    assert quality.agreement == Agreement(
        both_right=int((right[0] & right[1]).sum()),
        only_before=int((right[0] & ~right[1]).sum()),
        only_after=int((~right[0] & right[1]).sum()),
        both_wrong=int((~right[0] & ~right[1]).sum()),
    )


def test_sizes_are_those_on_disk(finished, shelf):
    out, receipt = finished
    places = {"before": shelf / "model", "after": out / "model"}
    for side, place in places.items():
        assert getattr(receipt.size.bytes, side) == (place / WEIGHTS).stat().st_size
        count = sum(item.numel() for item in api.load(place).parameters())
        assert getattr(receipt.size.parameters, side) == count


def test_layers_list_scores_and_kept_states(finished, shelf):
    out, receipt = finished
    scores = LAST()(modes_of(api.load(shelf / "model")))
    (cut,) = Plan.load(out / "plan.json").cuts
    for layer in receipt.as_dict()["details"]["layers"]:
        name = layer["name"]
        assert layer["scores"] == scores.values[name].flatten().tolist()
        assert layer["kept"] == cut.keep[name].flatten().tolist()
        assert (layer["before"], layer["after"]) == (len(layer["kept"]), sum(layer["kept"]))
    assert len(receipt.as_dict()["details"]["layers"]) == 2


def test_acceptance_and_its_reasons_are_reached(receipt):
    assert receipt.verdict.accepted
    assert all(item["passed"] and item["text"] for item in receipt.as_dict()["verdict"]["reasons"])


def test_a_loss_that_is_not_proven_is_refused_and_the_model_is_kept_for_a_look(start, quick):
    # 80 sequences prove no tolerance of one point, whatever they show.
    how = quick(proof=True, max_loss=0.01, sparsities=(0.07,), refine=0, baselines=())
    receipt = start(how)
    gates = {item["gate"]: item for item in receipt.as_dict()["verdict"]["reasons"]}
    assert not receipt.verdict.accepted
    assert not gates["quality"]["passed"]
    assert receipt.verdict.headline.startswith("Not accepted (quality")
    assert receipt.model.digest_after


def test_where_no_cut_fits_nothing_is_cut(start, quick, tmp_path):
    # One state of sixteen is left: the toy cannot be told apart any more.
    how = quick(max_loss=0.0, sparsities=(0.95,), refine=0, baselines=())
    receipt = start(how, report=True)
    assert not receipt.verdict.accepted
    assert receipt.verdict.headline.startswith("Nothing was cut: even the smallest cut")
    assert receipt.as_dict()["details"]["curve"]["point"] is None
    assert receipt.model.family == "s5"
    assert receipt.model.digest_after is None
    assert (receipt.quality, receipt.size) == (QualitySection(), SizeSection())
    out = tmp_path / "out"
    assert not (out / "model").exists()
    assert not (out / "plan.json").exists()
    assert Receipt.load(out / "receipt.json") == receipt
    assert "Nothing was cut" in (out / "report.html").read_text()


def own_file(tmp_path, body, after=""):
    path = tmp_path / "alarms.py"
    path.write_text(f"def alarms(outputs, y):\n    {body}\n{after}\n")
    return f"{path}:alarms"


FALSE_ALARMS = "return float((outputs.argmax(1)[y == 0] == 1).mean())"


def test_an_own_metric_from_a_file_is_reported(start, quick, tmp_path, shelf):
    metric = own_file(tmp_path, FALSE_ALARMS)
    how = quick(own_metric=metric, own_lower_is_better=True, baselines=(), sparsities=(0.25,))
    receipt = start(how)
    own, test = receipt.quality.own, toy().split("test")
    for side, place in {"before": shelf / "model", "after": tmp_path / "out" / "model"}.items():
        said = predict(api.load(place), test).argmax(1)[test.y == 0]
        assert getattr(own, side) == pytest.approx(float((said == 1).double().mean()))
    assert own.name == metric
    assert not own.higher_is_better
    gate = next(
        item for item in receipt.as_dict()["verdict"]["reasons"] if item["gate"] == "own metric"
    )
    assert gate["passed"]
    assert "not judged" in gate["text"]


def test_an_own_metric_can_refuse(start, quick, tmp_path):
    # Each split has a call for the model as it is, then one for the cut one: selection and test.
    body = "alarms.calls += 1; return float(alarms.calls < 4)"
    metric = own_file(tmp_path, body, after="alarms.calls = 0")
    receipt = start(
        quick(own_metric=metric, own_max_loss="0.5 absolute", baselines=(), sparsities=(0.25,))
    )
    assert receipt.quality.own.difference.value == -1.0
    assert not receipt.verdict.accepted
    assert receipt.verdict.headline.startswith("Not accepted (own metric)")


def test_an_own_metric_steers_the_sweep(start, quick, tmp_path):
    # Of the selection split: the model as it is, a quarter cut, and half of it cut.
    body = "alarms.calls += 1; return float(alarms.calls != 3)"
    metric = own_file(tmp_path, body, after="alarms.calls = 0")
    how = {"own_metric": metric, "own_max_loss": "0.5 absolute", "max_loss": "99 points"}
    receipt = start(quick(baselines=(), sparsities=(0.25, 0.5), refine=0, **how))
    curve = receipt.as_dict()["details"]["curve"]
    (points,) = curve["methods"].values()
    assert [bool(point["refused"]) for point in points] == [False, True]
    assert "loss 1, allowed 0.5" in points[1]["refused"]
    assert curve["point"]["sparsity"] == 0.25
    assert "own-metric" in [item.kind for item in receipt.findings]


@pytest.mark.parametrize("waived", [False, True])
def test_what_is_judged_on_copies_of_training_rows_is_refused_unless_waived(
    start, quick, tmp_path, waived
):
    data = toy()
    copied = data.split("train").first(15)
    save_npz(dataclasses.replace(data, splits={**data.splits, "test": copied}), tmp_path / "c.npz")
    how = {"baselines": (), "sparsities": (0.25,), "max_loss": "99 points", "min_gain": 0.001}
    receipt = start(quick(allow_copies=waived, **how), data=tmp_path / "c.npz")
    gate = next(
        item for item in receipt.as_dict()["verdict"]["reasons"] if item["gate"] == "copies"
    )
    assert "15 inputs" in gate["text"] and gate["passed"] == waived
    assert ("copies" in receipt.verdict.headline.partition(")")[0]) != waived


def test_price_and_load_give_the_saving(start, quick):
    how = quick(
        price_per_hour=2.5, currency="EUR", sequences_per_day=4e6, baselines=(), sparsities=(0.25,)
    )
    receipt = start(how)
    saving, per_batch = (receipt.as_dict()[name] for name in ("saving", "speed"))
    per_batch = per_batch["per_batch"]
    assert (saving["price_per_hour"], saving["currency"]) == (2.5, "EUR")
    times = Times(
        medians=(per_batch["before"], per_batch["after"]),
        least=(per_batch["minimum"]["before"], per_batch["minimum"]["after"]),
    )
    sure = "still changing" not in saving["counted"]
    counted = {"before": 1.0, "after": times.ratio if sure and times.changed else 1.0}
    for side, share in counted.items():
        seconds = share * per_batch["before"] / receipt.speed.batch_size
        hours = 4e6 * 30 * seconds / 3600
        assert saving["hours_per_month"][side] == pytest.approx(hours)
        assert saving["cost_per_month"][side] == pytest.approx(2.5 * hours)
    cost = saving["cost_per_month"]
    assert saving["saved_per_month"] == pytest.approx(cost["before"] - cost["after"])
    assert saving["assumptions"]


def test_a_two_way_model_has_no_step_and_says_why(start, quick, tmp_path):
    torch.manual_seed(0)
    config = SequenceConfig(
        family="s4d",
        width=4,
        states=(4,),
        outputs=2,
        channels=1,
        classes=("slow", "fast"),
        options=LTIOptions(bidirectional=True),
    )
    api.save(SequenceModel(config, torch.Generator().manual_seed(0)), tmp_path / "two-way")
    how = quick(max_loss=0.99, baselines=(), sparsities=(0.5,))
    receipt = start(how, model=tmp_path / "two-way")
    assert "bidirectional" in receipt.speed.per_step.why
    assert receipt.parity.worst["step_vs_scan"] is None
    assert "bidirectional" in receipt.parity.why_null["step_vs_scan"]
    assert receipt.parity.passed
    # It was never trained: that nothing is lost by cutting it proves nothing.
    (weak,) = settled(receipt)
    assert weak.kind == "weak-model"
    assert "most frequent class (50 %)" in weak.message


def test_a_good_model_is_not_called_weak(receipt):
    assert settled(receipt) == []


def test_a_regression_is_judged_by_its_error(start, quick, tmp_path):
    torch.manual_seed(0)
    splits = {
        name: dataclasses.replace(item, y=item.x.mean(1)) for name, item in toy().splits.items()
    }
    data = dataclasses.replace(toy(), task="regression", classes=(), splits=splits)
    save_npz(data, tmp_path / "means.npz")
    config = SequenceConfig(
        family="s5", width=4, states=(4,), outputs=1, channels=1, task="regression"
    )
    api.save(SequenceModel(config, torch.Generator().manual_seed(0)), tmp_path / "mean")
    how = quick(max_loss="10 absolute", baselines=(), sparsities=(0.5,))
    receipt = start(how, model=tmp_path / "mean", data=tmp_path / "means.npz")
    quality = receipt.quality
    assert (quality.metric, quality.higher_is_better) == ("mean absolute error", False)
    assert quality.agreement is None
    assert receipt.as_dict()["details"]["curve"]["higher_is_better"] is False
    expected = (
        predict(api.load(tmp_path / "mean"), data.split("test")) - data.split("test").y
    ).abs()
    assert quality.before.value == pytest.approx(float(expected.mean()))


def test_progress_tells_every_part(start, quick):
    told = []
    start(quick(), progress=lambda *said: told.append(said[:3]))
    assert told == [
        ("dense model", 1, 1),
        *[("sweep", done, 15) for done in range(1, 16)],
        ("cut", 1, 1),
        ("parity", 1, 1),
        ("speed", 1, 1),
        ("compare", 1, 1),
        ("report", 1, 1),
    ]


def test_the_dense_model_and_the_data_stay_as_they_are(shelf, finished):
    assert set(contents(shelf)) == {
        "data.npz",
        *(f"model/{name}" for name in ("README.md", "config.json", "history.json")),
        *(f"model/{name}" for name in ("manifest.json", "model.safetensors", "recipe.json")),
        "model/ssmith.json",
    }
    assert all(check.passed for check in api.verify(shelf / "model"))
    assert api.load_data(shelf / "data.npz").sha256 == finished[1].data.sha256
