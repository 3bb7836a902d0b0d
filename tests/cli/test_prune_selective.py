"""``ssmith prune`` on selective models: what it leaves, what it says, and what it refuses."""

import json

import numpy as np
import pytest
import torch

from helpers.tiny_mamba import tiny
from ssmith import api
from ssmith.core.files import read_json
from ssmith.families.registry import find_selective

pytest.importorskip("transformers")
SHORT = ("--samples", "4", "--length", "24")
LINES = "State spaces keep what matters; a cut state keeps nothing, and says so.\n" * 60


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("selective")
    tiny("mamba", vocab_size=256, state_size=4).save_pretrained(place / "mamba")
    tiny("falcon_mamba", vocab_size=256, state_size=4).save_pretrained(place / "falcon")
    tiny("mamba2", vocab_size=256).save_pretrained(place / "mamba2")
    (place / "text.txt").write_text(LINES)
    (place / "short.txt").write_text("too short")
    (place / "empty.txt").write_text("")
    np.save(place / "foreign.npy", np.arange(2000) % 300)
    return place


@pytest.fixture
def place(models, tmp_path, monkeypatch, capsys):
    for item in models.iterdir():
        (tmp_path / item.name).symlink_to(item)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    return tmp_path


def prune(ssmith, model, *words, data="text.txt"):
    return ssmith("prune", model, *words, "--data", data, *SHORT)


@pytest.mark.parametrize("model", ["mamba", "falcon"])
def test_a_cut_is_announced_made_saved_and_counted(place, ssmith, model):
    ended = prune(ssmith, model, "--a-log", "0.5", "--columns", "0.25", "--out", "small")
    assert (ended.code, ended.err) == (0, "")
    said = ended.out.splitlines()
    assert said[0].startswith("calibration: 4 windows of 24 tokens, 96 in all, 0.0% padding")
    assert said[1].startswith("preflight: about ")
    assert said[2].startswith("portable: yes")
    assert said[3].startswith("note: columns: B and C are divided") == (model == "falcon")
    assert "stability of entries" in ended.out
    assert said[-1] == "model: small"
    receipt = read_json(place / "small" / "receipt.json")
    assert receipt["removed"]["entries"] == {"before": 240, "after": 120, "fraction": 0.5}
    assert receipt["removed"]["columns"] == {"before": 8, "after": 6, "fraction": 0.25}
    assert receipt["method"]["semantics"] == {"entries": "memoryless", "columns": "remove"}
    assert receipt["method"]["command"][:2] == ["ssmith", "prune"]
    assert receipt["data"]["windows"] == 4
    memory = receipt["memory"]
    assert memory["estimated"]["memory"] > 0
    assert memory["measured"]["peak"] >= memory["measured"]["before"] > 10**7
    pruned = api.load(place / "small")
    assert sum(int(layer.present.sum()) for layer in find_selective(pruned).values()) == 120
    assert ssmith("verify", "small").code == 0
    listed = ssmith("inspect", "small", "--json").document["layers"][0]
    assert listed["units"]["states"] == 3
    assert listed["units"]["entries"] == 120


def test_the_saved_plans_make_the_same_model_again(place, ssmith):
    prune(ssmith, "mamba", "--a-log", "0.5", "--method", "fastest-decay", "--out", "small")
    model = api.load("mamba")
    plan = api.Plan.load(place / "small" / "plan.entries.json")
    assert plan.semantics == "memoryless"
    receipt = api.prune_(model, plan)
    assert receipt.removed["entries"] == {"before": 320, "after": 160, "fraction": 0.5}
    assert api.inspect(model).digest == api.inspect(api.load("small")).digest


def test_json_is_one_document_and_a_dry_run_writes_nothing(place, ssmith):
    before = sorted(place.rglob("*"))
    ended = prune(ssmith, "mamba", "--pattern", "2:4", "--dry-run", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.document["model"] is None
    assert ended.document["receipt"]["removed"]["entries"]["fraction"] == 0.5
    assert ended.document["receipt"]["method"]["a_log"] == "2:4"
    assert sorted(place.rglob("*")) == before


def test_unequal_layers_are_announced_before_the_cut(place, ssmith):
    ended = prune(ssmith, "mamba", "--columns", "0.25", "--per-layer", "--out", "small")
    assert "portable: no; layers will hold unequal numbers of states" in ended.out
    sizes = read_json(place / "small" / "ssmith.json")["sites"].values()
    assert sum(facts["sizes"]["state"] for facts in sizes) == 6


def test_the_same_command_goes_on_from_its_working_directory(place, ssmith, monkeypatch):
    words = ("mamba", "--a-log", "0.5", "--out", "small", "--work-dir", "work", "--from-disk")
    prune(ssmith, "mamba", "--a-log", "0.5", "--out", "whole")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ssmith.jobs.selective.save.Assembly.write", killed)
        assert prune(ssmith, *words).code == 130
    assert not (place / "small").exists()
    assert prune(ssmith, *words).code == 0
    found = [api.inspect(api.load(out)).digest for out in ("whole", "small")]
    assert found[0] == found[1]
    other = prune(
        ssmith, "mamba", "--a-log", "0.25", "--out", "x", "--work-dir", "work", "--from-disk"
    )
    assert (other.code, other.out.count("\n")) == (2, 3)
    assert "over another model, text or method" in other.err


REFUSED = {
    "no data": (("mamba", "--a-log", "0.5", "--out", "x"), None, "--data is missing"),
    "too few tokens": (("mamba", "--a-log", "0.5", "--out", "x"), "short.txt", "do not fit"),
    "an empty file": (("mamba", "--a-log", "0.5", "--out", "x"), "empty.txt", "empty"),
    "a wrong vocabulary": (("mamba", "--a-log", "0.5", "--out", "x"), "foreign.npy", "vocabulary"),
    "no such file": (("mamba", "--a-log", "0.5", "--out", "x"), "nowhere.txt", "nowhere.txt"),
    "a budget of nothing": (("mamba", "--a-log", "0.0001", "--out", "x"), "text.txt", "none"),
    "all columns": (("mamba", "--columns", "0.9", "--out", "x"), "text.txt", "all of them"),
    "a share above one": (("mamba", "--a-log", "1.5", "--out", "x"), "text.txt", "a_log is 1.5"),
    "a pattern that does not fit": (
        ("mamba", "--a-log", "2:3", "--out", "x"), "text.txt", "a multiple of 3",
    ),
    "no pattern": (("mamba", "--pattern", "4:2", "--out", "x"), "text.txt", "N:M"),
    "two decisions": (
        ("mamba", "--pattern", "2:4", "--a-log", "0.25", "--out", "x"), "text.txt", "both decide",
    ),
    "a method for entries": (
        ("mamba", "--columns", "0.5", "--method", "sparsessm", "--out", "x"), "text.txt",
        "not defined for columns",
    ),
    "an unknown method": (
        ("mamba", "--a-log", "0.5", "--method", "last", "--out", "x"), "text.txt",
        "no criterion 'last' for selective layers",
    ),
    "unknown semantics": (
        ("mamba", "--a-log", "0.5", "--semantics", "zero", "--out", "x"), "text.txt",
        "semantics is 'zero'",
    ),
    "Mamba-2": (("mamba2", "--a-log", "0.5", "--out", "x"), "text.txt", "one number per head"),
    "an LTI model": (
        ("embedded:digits-s5", "--a-log", "0.5", "--out", "x"), "text.txt", "cut by --ratio",
    ),
    "nothing to cut": (("mamba", "--per-layer", "--out", "x"), "text.txt", "nothing is to be"),
    "no output": (("mamba", "--a-log", "0.5"), "text.txt", "--out is missing"),
    "both kinds": (
        ("mamba", "--a-log", "0.5", "--ratio", "0.5", "--out", "x"), "text.txt",
        "--ratio is for S5 and S4D models",
    ),
    "disk without a place": (
        ("mamba", "--a-log", "0.5", "--from-disk", "--out", "x"), "text.txt", "working directory",
    ),
    "its own input": (("mamba", "--a-log", "0.5", "--out", "mamba"), "text.txt", "would replace"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_clear_line_and_loses_nothing(place, ssmith, case):
    words, data, said = REFUSED[case]
    before = sorted(place.rglob("*"))
    given = () if data is None else ("--data", data)
    ended = ssmith("prune", *words, *given, *SHORT)
    assert ended.code == 2, ended.err
    assert ended.err.count("\n") == 1
    assert said in ended.err
    assert sorted(place.rglob("*")) == before


def test_a_weight_that_is_not_finite_loses_nothing(place, ssmith):
    model = tiny("mamba", vocab_size=256, state_size=4)
    model.backbone.layers[1].mixer.dt_proj.weight.data[0, 0] = torch.nan
    model.save_pretrained(place / "broken")
    ended = prune(ssmith, "broken", "--a-log", "0.5", "--out", "x")
    assert ended.code == 2
    assert "non-finite" in ended.err
    assert not (place / "x").exists()


def test_errors_under_json_are_json_too(place, ssmith):
    ended = prune(ssmith, "mamba", "--a-log", "7", "--out", "x", "--json")
    assert ended.code == 2
    assert json.loads(ended.out)["error"]


def test_projections_are_cut_recovered_counted_and_saved(place, ssmith):
    ended = prune(
        ssmith, "mamba", "--whole", "0.5", "--recover", "D", "--projection-method", "wanda",
        "--allocation", "uniform", "--out", "small",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    receipt = read_json(place / "small" / "receipt.json")
    assert receipt["method"]["projections"]["method"] == "wanda"
    assert receipt["removed"]["projections"]["fraction"] == pytest.approx(0.5, abs=1e-3)
    assert receipt["removed"]["entries"]["fraction"] == 0.5
    for layer in find_selective(api.load("small")).values():
        weight = layer.mixer.in_proj.weight
        assert int((weight == 0).sum()) == weight.numel() // 2


def test_blocks_go_alone_and_leave_a_shallower_model(place, ssmith):
    for again in ((), ("--overwrite",)):
        ended = prune(
            ssmith, "falcon", "--blocks", "1", "--out", "small", "--work-dir", "work", *again
        )
        assert (ended.code, ended.err) == (0, "")
    assert len(find_selective(api.load("small"))) == 1
    assert "block removed" in ended.out
    receipt = read_json(place / "small" / "receipt.json")
    assert receipt["removed"]["blocks"]["after"] == 1
    assert receipt["memory"]["measured"]["peak"] > 10**7


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--a-log", "0.5", "--width", "0.1"), "--width without --projections"),
        (("--projections", "1.5"), "projections is 1.5"),
        (("--whole", "0.5", "--a-log", "0.3"), "both decide"),
        (("--projections", "0.5", "--pattern", "1:4"), "fraction 1:4 removes"),
        (("--a-log", "0.5", "--compensate", "C"), "no column is to be removed"),
        (("--a-log", "0.5", "--recover", "x"), "letters D, h, y"),
        (("--blocks", "1", "--a-log", "0.5"), "--blocks alone"),
        (("--blocks", "2"), "allowed: 1, as one stays"),
        (("--projections", "3:7"), "multiple of 7"),
    ],
)
def test_projections_that_cannot_be_cut_are_said_in_one_line(place, ssmith, words, said):
    ended = prune(ssmith, "mamba", *words, "--out", "small")
    assert ended.code == 2 and said in ended.err and ended.err.count("\n") == 1
    assert not (place / "small").exists()


def test_a_text_may_stand_under_another_key(place, ssmith):
    rows = [json.dumps({"line": LINES}) for _ in range(8)]
    (place / "lines.jsonl").write_text("\n".join(rows))
    asked = ("--a-log", "0.5", "--out", "small")
    assert prune(ssmith, "mamba", *asked, data="lines.jsonl").code == 2
    assert prune(ssmith, "mamba", *asked, "--field", "line", data="lines.jsonl").code == 0
