import json

import pytest
import torch

from helpers.toy import tiny_data
from ssmith import api
from ssmith.cli.main import COMMANDS
from ssmith.core.plan import Plan
from ssmith.core.receipt import Receipt
from ssmith.core.sections import UnitRemoved, Verdict
from ssmith.criteria import KINDS, by_name, names
from ssmith.data import save_npz
from ssmith.jobs.pilot import PilotConfig

FAST = ("--speed-seconds", "0.01")


def test_inspect(place, ssmith):
    text = ssmith("inspect", "model")
    assert text.code == 0
    assert "blocks.1.ssm" in text.out
    assert text.err == ""
    found = ssmith("inspect", "model", "--json").document
    assert found["digest"] == api.inspect(api.load("model")).digest
    assert [layer["units"]["state"] for layer in found["layers"]] == [6, 6]


def test_verify_passes_then_fails(place, ssmith):
    assert ssmith("verify", "model").code == 0
    (place / "model" / "README.md").write_text("other words")
    text = ssmith("verify", "model")
    assert text.code == 1
    assert "1 of" in text.out
    found = ssmith("verify", "model", "--json")
    assert found.code == 1
    assert found.document["passed"] is False
    assert [item["name"] for item in found.document["checks"] if not item["passed"]] == [
        "file README.md"
    ]


def test_parity_of_a_model_of_our_own(place, ssmith):
    ended = ssmith("parity", "model", "--length", "16", "--batch", "3")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("diagonal_scan runs on ")
    assert "whole against step by step (float64)" in ended.out
    found = ssmith("parity", "model", "--json").document
    assert found["passed"] is True
    assert found["paths"][0]["op"] == "diagonal_scan"
    assert ssmith("parity", "model", "--quiet").out == ""


def test_parity_refuses_what_does_not_apply(place, ssmith):
    for words, said in (
        (("--stock",), "stock code"),
        (("--length", "3"), "length is 3"),
        (("--require-backend", "warp"), "'warp'"),
        (("--require-backend", "reference"), "diagonal_scan would run on"),
    ):
        ended = ssmith("parity", "model", *words)
        assert (ended.code, ended.out) == (2, "")
        assert said in ended.err


def test_eval_says_what_measure_finds(place, ssmith):
    found = ssmith("eval", "model", "--data", "data.npz", "--json").document
    model = api.load("model")
    expected = api.evaluate(model, api.load_data("data.npz", model).split("test"))
    assert found["estimate"] == expected.as_dict()
    assert found["metric"] == "accuracy"
    text = ssmith("eval", "model", "--data", "data.npz", "--metric", "cross_entropy")
    assert text.code == 0
    assert text.out.startswith("cross-entropy: ")
    assert "on data.npz, split test" in text.out


def test_prune_dry_run_cuts_nothing_and_writes_the_plan(place, ssmith):
    text = ssmith("prune", "model", "--cut", "state=0.5", "--dry-run", "--plan-out", "plan.json")
    assert text.code == 0
    assert "keep 6 of 12" in text.out
    assert Plan.load(place / "plan.json").cut("state").kept == 6
    assert sorted(item.name for item in place.iterdir()) == [
        "data.npz", "known.npz", "model", "plan.json",
    ]  # fmt: skip


def test_prune_saves_a_model_that_verifies(place, ssmith):
    found = ssmith("prune", "model", "--cut", "state=0.5", "--out", "small", "--json")
    assert found.code == 0
    before, after = api.load("model"), api.load("small")
    receipt = Receipt.load(place / "small" / "receipt.json")
    assert found.document["receipt"] == receipt.as_dict()
    assert receipt.model.digest_before == api.inspect(before).digest
    assert receipt.model.digest_after == api.inspect(after).digest
    assert receipt.method.command[:3] == ("ssmith", "prune", "model")
    assert Plan.load(place / "small").cut("state").kept == 6
    assert json.loads((place / "small" / "ssmith.json").read_text())["parent"] == (
        receipt.model.digest_before
    )
    assert sum(layer.units["state"] for layer in api.inspect(after).layers) == 6
    assert ssmith("verify", "small").code == 0


def test_prune_by_an_edited_plan(place, ssmith):
    ssmith("prune", "model", "--cut", "state=0.5", "--dry-run", "--plan-out", "plan.json")
    plan = json.loads((place / "plan.json").read_text())
    plan["cuts"][0]["sites"]["blocks.0.ssm"]["keep"] = [1, 4]
    (place / "plan.json").write_text(json.dumps(plan))
    ended = ssmith("prune", "model", "--plan-in", "plan.json", "--mode", "mask", "--out", "masked")
    assert ended.code == 0
    layer = api.inspect(api.load("masked")).layers[0]
    assert (layer.units["state"], layer.masked["state"]) == (6, 4)


def test_prune_takes_settings_of_the_criterion(place, ssmith):
    found = ssmith(
        "prune", "model", "--cut", "state=0.5", "--dry-run", "--method", "random",
        "--seed", "3", "--scope", "uniform", "--min-per-layer", "1", "--json",
    ).document["plan"]["cuts"][0]  # fmt: skip
    assert found["method"]["name"] == "random"
    assert found["budget"]["scope"] == "uniform"
    assert found["budget"]["min_per_layer"] == 1
    assert found["budget"]["seed"] == 3
    ended = ssmith(
        "prune", "model", "--cut", "state=0.5", "--dry-run", "--method", "hinf-global", "--set",
        "norm=exact", "--json",
    )  # fmt: skip
    assert ended.document["plan"]["cuts"][0]["budget"]["settings"] == {"norm": "exact"}


def test_overwrite_replaces(place, ssmith):
    command = ("prune", "model", "--cut", "state=0.5", "--out", "small")
    assert ssmith(*command).code == 0
    assert ssmith(*command).code == 2
    mine = place / "small" / "mine"
    mine.write_text("years of work")
    refused = ssmith(*command, "--overwrite")
    assert (refused.code, mine.read_text()) == (2, "years of work")
    assert "mine in it is no file that ssmith lists as its own" in refused.err
    mine.unlink()
    assert ssmith(*command, "--overwrite").code == 0


@pytest.mark.parametrize("name", ["mine.json", "mine.safetensors"])
def test_a_plan_replaces_nothing_unasked(place, ssmith, name):
    (place / name).write_text("mine")
    ended = ssmith("prune", "model", "--cut", "state=0.5", "--dry-run", "--plan-out", "mine.json")
    assert ended.code == 2
    assert name in ended.err
    assert (place / name).read_text() == "mine"


def test_overwrite_spares_what_is_no_model(place, ssmith):
    (place / "thesis").mkdir()
    (place / "thesis" / "text").write_text("years of work")
    ended = ssmith("prune", "model", "--cut", "state=0.5", "--out", "thesis", "--overwrite")
    assert ended.code == 2
    assert (place / "thesis" / "text").read_text() == "years of work"


def test_compare_prints_and_writes(place, ssmith):
    ssmith("prune", "model", "--cut", "state=0.5", "--out", "small")
    command = ("compare", "model", "small", "--data", "data.npz", *FAST)
    text = ssmith(*command, "--out", "page")
    assert text.code == 0
    assert "accuracy, test" in text.out
    assert "McNemar" in text.out
    assert (place / "page" / "report.html").is_file()
    receipt = Receipt.load(place / "page" / "receipt.json")
    assert receipt.action == "compare"
    assert receipt.verdict == Verdict()
    assert receipt.model.family == "s5"
    assert receipt.removed["state"] == UnitRemoved(before=12, after=6, fraction=0.5)
    model = api.load("model")
    part = api.load_data("data.npz", model).split("test")
    expected = api.compare(model, api.load("small"), part).section(split="test")
    assert receipt.quality == expected


def test_compare_with_an_own_metric_that_prints(place, ssmith):
    (place / "mine.py").write_text(
        "def worst(outputs, y):\n    print('hello')\n    return float(outputs.max())\n"
    )
    ended = ssmith(
        "compare", "model", "model", "--data", "data.npz", *FAST, "--json",
        "--own-metric", "mine.py:worst", "--own-lower-is-better",
    )  # fmt: skip
    assert ended.code == 0
    own = ended.document["quality"]["own"]
    assert own["higher_is_better"] is False
    assert own["difference"]["value"] == 0
    assert "hello" in ended.err
    alone = ssmith("eval", "model", "--data", "data.npz", "--own-metric", "mine.py:worst", "--json")
    (measure,) = [item for item in alone.document["measures"] if item["name"] == "mine.py:worst"]
    assert measure["value"] == own["before"]
    # One class always is a one among zeros.
    assert measure["naive"] == 1


def pilot(*more):
    return (
        "pilot", "model", "--data", "known.npz", "--out", "pilot", *FAST,
        "--at", "0.3,0.6", "--baselines", "random", *more,
    )  # fmt: skip


def test_pilot_accepts_then_resumes_then_refuses(place, ssmith):
    text = ssmith(*pilot("--max-loss", "0.99"))
    assert text.code == 0, text.err
    assert text.out.startswith("accepted: ")
    receipt = (place / "pilot" / "receipt.json").read_bytes()
    # What it left names the model it was made from, and is followed there.
    verified = ssmith("verify", "pilot")
    assert verified.code == 0
    assert "not checked" not in verified.out
    assert ssmith(*pilot("--max-loss", "0.99")).code == 2
    again = ssmith(*pilot("--max-loss", "0.99", "--resume", "--json"))
    assert again.code == 0
    assert (place / "pilot" / "receipt.json").read_bytes() == receipt
    assert again.document == json.loads(receipt)
    assert again.document["method"]["config"]["baselines"] == ["random"]
    refused = ssmith(
        *pilot("--max-loss", "0", "--proof", "--method", "last", "--overwrite", "--json")
    )
    assert refused.code == 1
    assert refused.document["verdict"]["accepted"] is False


def test_report_again(place, ssmith):
    ssmith("prune", "model", "--cut", "state=0.5", "--out", "small")
    command = ("report", "small/receipt.json", "--out", "page")
    assert ssmith(*command).code == 0
    page = (place / "page" / "report.html").read_bytes()
    assert ssmith(*command).code == 2
    found = ssmith(*command, "--overwrite", "--json")
    assert found.document == {"report": "page/report.html"}
    assert (place / "page" / "report.html").read_bytes() == page


def recipe(place):
    content = {
        "data": "data.npz",
        "model": {"family": "s5", "width": 4, "states": [4]},
        "fit": {"epochs": 2, "batch_size": 6, "warmup": 0.5},
    }
    (place / "recipe.json").write_text(json.dumps(content))


def test_train_is_repeatable(place, ssmith):
    recipe(place)
    found = ssmith("train", "recipe.json", "--seed", "1", "--out", "one", "--json")
    assert found.code == 0, found.err
    assert found.document["model"] == "one"
    assert found.document["epochs"] == 2
    assert ssmith("train", "recipe.json", "--seed", "1", "--out", "two").code == 0
    first, second = (api.load(name).state_dict() for name in ("one", "two"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert ssmith("verify", "one").code == 0


def test_list_names_what_the_rooms_know(ssmith):
    found = ssmith("list", "--json").document
    assert [item["name"] for item in found[f"method for {KINDS['lti']}"]] == list(names())
    assert "embedded:digits" in [item["name"] for item in found["data"]]
    assert all(item["about"] for entries in found.values() for item in entries)
    assert "embedded:listops" in ssmith("list").out


def test_every_criterion_is_listed():
    with pytest.raises(ValueError, match="no method") as caught:
        by_name("")
    assert sorted(caught.value.allowed.split(", ")) == sorted(names())


def test_defaults_in_the_help_are_the_configs(ssmith):
    text = " ".join(ssmith("pilot", "--help").out.split())
    default = PilotConfig()
    for words in (
        f"(default: {default.method})",
        f"(default: {default.speed_seconds:g})",
        f"(default: {default.price_per_hour:g})",
        f"(default: {default.currency})",
        f"(default: {default.seed})",
    ):
        assert words in text, words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(ssmith, name):
    ended = ssmith(name, "--help")
    assert ended.code == 0
    assert f"example:\n  ssmith {name}" in ended.out


TUNING = ("--method", "state-offset-y", "--rate", "0.01", "--steps", "2")


# A line with a profile, which a watch and a cycle need, is made in the tests of their own rooms.
@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"watch", "cycle"}))
def test_quiet_prints_nothing(place, ssmith, name):
    recipe(place)
    (place / "rows.jsonl").write_text('{"x": [[0.1, 0.2]]}\n')
    ssmith("prune", "model", "--cut", "state=0.5", "--out", "small", "--quiet")
    ssmith("release", "init", "begun", "--quiet")
    if name == "merge":
        more = ("--data", "data.npz", "--steps", "2", "--out", "adapted", "--quiet")
        ssmith("tune", "model", "--method", "parameters:D", *more)
    words = {
        "data": ("data.npz",),
        "inspect": ("model",),
        "prune": ("model", "--cut", "state=0.5", "--out", "other"),
        "eval": ("model", "--data", "data.npz"),
        "predict": ("model", "--data", "data.npz"),
        "compare": ("model", "small", "--data", "data.npz", *FAST),
        "audit": ("model", "small", "--data", "data.npz"),
        "canary": ("model", "--requests", "4"),
        "trial": ("model", "small", "--data", "rows.jsonl", "--state", "state"),
        "pilot": pilot("--max-loss", "0.99", "--method", "last")[1:],
        "verify": ("model",),
        "parity": ("model",),
        "train": ("recipe.json", "--out", "trained"),
        "tune": ("model", *TUNING, "--data", "data.npz", "--out", "tuned"),
        "merge": ("adapted", "--out", "merged"),
        "release": ("init", "line"),
        "dashboard": ("begun", "--out", "site"),
        "report": ("small/receipt.json", "--out", "page"),
        "list": (),
    }[name]
    ended = ssmith(name, *words, "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_prune_refits_on_data(place, ssmith):
    command = ("prune", "model", "--cut", "state=0.5", "--method", "state-obs")
    refused = ssmith(*command, "--out", "small")
    assert refused.code == 2
    assert "state-obs is fitted to data" in refused.err
    assert not (place / "small").exists()
    ended = ssmith(*command, "--data", "data.npz", "--out", "small", "--json")
    assert ended.code == 0
    receipt = ended.document["receipt"]
    assert receipt["removed"]["state"]["after"] == 6
    assert receipt["data"]["counts"] == {"rows": 12}


@pytest.mark.parametrize(
    "words",
    [
        ("eval", "model"),
        ("compare", "model", "model", *FAST),
        ("audit", "model", "model"),
        ("tune", "model", *TUNING, "--out", "tuned"),
        ("prune", "model", "--cut", "state=0.5", "--method", "state-obs", "--out", "small"),
    ],
    ids=lambda words: words[0],
)
def test_values_that_look_like_gaps_are_told_by_every_command(place, ssmith, words):
    data = tiny_data()
    data.splits["train"].x[0, 0, 0] = -9999.0
    save_npz(data, place / "gap.npz")
    ended = ssmith(*words, "--data", "gap.npz")
    assert ended.code == 0, ended.err
    assert "warning: channel 0 is -9999 at 1 step" in ended.out


def test_an_audit_of_few_rows_says_that_it_has_no_interval(place, ssmith):
    save_npz(tiny_data(count=3), place / "few.npz")
    ended = ssmith("audit", "model", "model", "--data", "few.npz")
    assert ended.code == 0, ended.err
    assert "no interval" in ended.out
