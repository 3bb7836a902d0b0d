"""``ssmith prune``: what it leaves, what it says, and what it refuses."""

import json
from importlib import import_module

import numpy as np
import pytest
import torch

from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import tiny
from ssmith import api
from ssmith.core.files import read_json
from ssmith.core.plan import Plan
from ssmith.core.sections import UnitRemoved
from ssmith.core.settings import read_settings
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


@pytest.mark.parametrize(
    ("model", "cut"), [("mamba", "entry=0.5"), ("mamba2", "state=0.5"), ("bamba", "neuron=0.5")]
)
def test_a_plan_is_followed_on_a_model_that_stays_on_disk(place, ssmith, monkeypatch, model, cut):
    if model == "bamba":
        tiny_hybrid("bamba", vocab_size=256).save_pretrained("bamba")
    assert prune(ssmith, model, "--cut", cut, "--out", "small").code == 0

    def in_memory(spec):
        raise AssertionError(spec)

    monkeypatch.setattr("ssmith.jobs.prune.whole", in_memory)
    ended = ssmith("prune", model, "--plan-in", "small", "--from-disk", "--out", "again")
    assert (ended.code, ended.err) == (0, "")
    weights = [place / out / "model.safetensors" for out in ("small", "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_what_is_recalled_before_and_after_a_cut_is_shown(place, ssmith):
    assert prune(ssmith, "mamba", "--cut", "entry=0.5", "--out", "small").code == 0
    asked = ("--recall-texts", "4", "--recall-length", "64")
    short = ("--length", "24", "--windows", "4", "--speed-seconds", "0.02")
    ended = ssmith("compare", "mamba", "small", "--data", "text.txt", *asked, *short)
    assert ended.code == 0
    for task in ("copy", "associative", "passkey"):
        (line,) = (line for line in ended.out.splitlines() if f"recall, {task} over" in line)
        assert line.split("tokens")[1].split()[:2] == ["0.0000", "0.0000"]


def test_a_receipt_that_was_cut_off_is_not_taken_for_right(place, ssmith):
    assert prune(ssmith, "mamba", "--cut", "entry=0.5", "--out", "small").code == 0
    receipt = place / "small" / "receipt.json"
    receipt.write_text(receipt.read_text()[:-40])
    ended = ssmith("verify", "small", "--json")
    assert ended.code == 1
    found = {check["name"]: check for check in ended.document["checks"]}
    assert not found["made from"]["passed"]
    assert "receipt.json" in found["made from"]["detail"]


def test_a_plan_that_removes_blocks_needs_the_whole_model(place, ssmith):
    assert prune(ssmith, "mamba", "--cut", "block=1", "--out", "small").code == 0
    ended = ssmith("prune", "mamba", "--plan-in", "small", "--from-disk", "--out", "again")
    assert ended.code == 2
    assert "begins with a cut of blocks, and the model stays on disk" in ended.err
    assert not (place / "again").exists()


@pytest.mark.parametrize("model", ["mamba", "falcon"])
def test_a_cut_is_announced_made_saved_and_counted(place, ssmith, model):
    ended = prune(ssmith, model, "--cut", "state=0.25", "--cut", "entry=0.5", "--out", "small")
    assert (ended.code, ended.err) == (0, "")
    said = ended.out.splitlines()
    assert said[0].startswith("calibration: 4 windows of 24 tokens, 96 in all, 0.0% padding")
    assert said[1].startswith("preflight: about ")
    assert said[2].startswith("portable: yes")
    assert ("B and C are divided" in ended.out) == (model == "falcon")
    assert "stability of entry" in ended.out
    assert said[-1] == "model: small"
    receipt = read_json(place / "small" / "receipt.json")
    assert receipt["removed"]["entry"] == {"before": 240, "after": 120, "fraction": 0.5}
    assert receipt["removed"]["state"] == {"before": 8, "after": 6, "fraction": 0.25}
    assert {cut["unit"]: cut["semantics"] for cut in receipt["method"]["cuts"]} == {
        "entry": "memoryless", "state": "remove",
    }  # fmt: skip
    assert receipt["method"]["command"][:2] == ["ssmith", "prune"]
    assert receipt["data"]["windows"] == 4
    memory = receipt["memory"]
    assert memory["estimated"]["memory"] > 0
    assert memory["measured"]["peak"] >= memory["measured"]["before"] > 10**7
    pruned = api.load(place / "small")
    assert sum(int(layer.present.sum()) for layer in find_selective(pruned).values()) == 120
    assert ssmith("verify", "small").code == 0
    listed = ssmith("inspect", "small", "--json").document["layers"][0]
    assert listed["units"]["state"] == 3
    assert listed["units"]["entry"] == 120


def test_the_saved_plans_make_the_same_model_again(place, ssmith):
    prune(ssmith, "mamba", "--cut", "entry=0.5", "--method", "fastest-decay", "--out", "small")
    model = api.load("mamba")
    plan = Plan.load(place / "small")
    assert plan.cut("entry").semantics == "memoryless"
    receipt = api.prune_(model, plan)
    assert receipt.removed["entry"] == UnitRemoved(before=320, after=160, fraction=0.5)
    assert api.inspect(model).digest == api.inspect(api.load("small")).digest


def test_json_is_one_document_and_a_dry_run_writes_nothing(place, ssmith):
    before = sorted(place.rglob("*"))
    ended = prune(ssmith, "mamba", "--cut", "entry=2:4", "--dry-run", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.document["model"] is None
    assert ended.document["receipt"]["removed"]["entry"]["fraction"] == 0.5
    assert sorted(place.rglob("*")) == before


def test_unequal_layers_are_announced_before_the_cut(place, ssmith):
    ended = prune(ssmith, "mamba", "--cut", "state=0.25", "--scope", "cost", "--out", "small")
    assert "portable: no; layers hold unequal numbers of state" in ended.out
    sizes = read_json(place / "small" / "ssmith.json")["sites"].values()
    assert sum(facts["sizes"]["state"] for facts in sizes) == 6


def test_the_same_command_goes_on_from_its_working_directory(place, ssmith, monkeypatch):
    words = ("mamba", "--cut", "entry=0.5", "--out", "small", "--work-dir", "work", "--from-disk")
    prune(ssmith, "mamba", "--cut", "entry=0.5", "--out", "whole")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(import_module("ssmith.artefact.save"), "write_streamed", killed)
        assert prune(ssmith, *words).code == 130
    assert not (place / "small").exists()
    assert prune(ssmith, *words).code == 0
    found = [api.inspect(api.load(out)).digest for out in ("whole", "small")]
    assert found[0] == found[1]
    other = prune(
        ssmith, "mamba", "--cut", "entry=0.25", "--out", "x", "--work-dir", "work", "--from-disk"
    )
    assert (other.code, other.out.count("\n")) == (2, 2)
    # The share and the number of samples differ; what differs is named.
    assert "work belongs to a run with other settings or data: cuts." in other.err


ENTRIES = ("mamba", "--cut", "entry=0.5", "--out", "x")
REFUSED = {
    "no data": (ENTRIES, None, "rows to calibrate on"),
    "too few tokens": (ENTRIES, "short.txt", "do not fit"),
    "an empty file": (ENTRIES, "empty.txt", "empty"),
    "a wrong vocabulary": (ENTRIES, "foreign.npy", "vocabulary"),
    "no such file": (ENTRIES, "nowhere.txt", "nowhere.txt"),
    "a budget of nothing": (("mamba", "--cut", "entry=0.0001", "--out", "x"), "text.txt", "none"),
    "all states": (("mamba", "--cut", "state=0.9", "--out", "x"), "text.txt", "all of them"),
    "a share above one": (
        ("mamba", "--cut", "entry=1.5", "--out", "x"), "text.txt", "sparsity of entry is 1.5",
    ),
    "a pattern that does not fit": (
        ("mamba", "--cut", "entry=2:3", "--out", "x"), "text.txt", "a multiple of 3",
    ),
    "no pattern": (("mamba", "--cut", "entry=4:2", "--out", "x"), "text.txt", "N:M"),
    "no amount": (("mamba", "--cut", "entry", "--out", "x"), "text.txt", "UNIT=AMOUNT"),
    "no number": (("mamba", "--cut", "entry=half", "--out", "x"), "text.txt", "not a number"),
    "no quantity": (
        ("mamba", "--cut", "state=paramters:0.7", "--out", "x"), "text.txt",
        "did you mean 'parameters'",
    ),
    "another word": (
        ("mamba", "--cut", "columns=0.5", "--out", "x"), "text.txt", "did you mean state=0.5?",
    ),
    "another tool's flag": (("mamba", "--sparsity", "0.5"), "text.txt", "did you mean --cut UNIT"),
    "no unit": (("mamba", "--cut", "stat=0.5", "--out", "x"), "text.txt", "stat"),
    "a method for entries": (
        ("mamba", "--cut", "state=0.5", "--method", "sparsessm", "--out", "x"), "text.txt",
        "sparsessm",
    ),
    "an unknown method": (
        (*ENTRIES, "--method", "last"), "text.txt", "'last'",
    ),
    "unknown semantics": ((*ENTRIES, "--semantics", "zero"), "text.txt", "'zero'"),
    "unknown scope": ((*ENTRIES, "--scope", "unifrm"), "text.txt", "did you mean 'uniform'"),
    "a floor that is none": ((*ENTRIES, "--min-per-layer", "x"), "text.txt", "not a whole number"),
    "bare with several": (
        (*ENTRIES, "--cut", "state=0.5", "--method", "gram-greedy"), "text.txt",
        "next: --method entry:gram-greedy",
    ),
    "entries where there are none": (
        ("embedded:digits-s5", "--cut", "entry=0.5", "--out", "x"), None, "entry",
    ),
    "nothing to cut": (("mamba", "--out", "x"), "text.txt", "--cut is missing"),
    "no output": (ENTRIES[:3], "text.txt", "--out is missing"),
    "a plan and a cut": ((*ENTRIES, "--plan-in", "p"), None, "--plan-in and --cut both decide"),
    "a plan and data": (
        ("mamba", "--plan-in", "p", "--out", "x"), "text.txt", "--plan-in and --data both decide",
    ),
    "disk without a place": ((*ENTRIES, "--from-disk"), "text.txt", "working directory"),
    "its own input": (
        ("mamba", "--cut", "entry=0.5", "--out", "mamba"), "text.txt", "would replace",
    ),
    "all blocks": (("mamba", "--cut", "block=2", "--out", "x"), "text.txt", "1"),
    "terms that are none": ((*ENTRIES, "--compensate", "x"), "text.txt", "compensate is 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_clear_line_and_loses_nothing(place, ssmith, case):
    words, data, said = REFUSED[case]
    before = sorted(place.rglob("*"))
    given = () if data is None else ("--data", data)
    short = () if data is None else SHORT
    ended = ssmith("prune", *words, *given, *short)
    assert ended.code == 2, ended.err
    assert ended.err.count("\n") == 1
    assert said in ended.err
    assert sorted(place.rglob("*")) == before


def test_a_weight_that_is_not_finite_loses_nothing(place, ssmith):
    model = tiny("mamba", vocab_size=256, state_size=4)
    model.backbone.layers[1].mixer.dt_proj.weight.data[0, 0] = torch.nan
    model.save_pretrained(place / "broken")
    ended = prune(ssmith, "broken", "--cut", "entry=0.5", "--out", "x")
    assert ended.code == 2
    assert "non-finite" in ended.err
    assert not (place / "x").exists()


def test_errors_under_json_are_json_too(place, ssmith):
    ended = prune(ssmith, "mamba", "--cut", "entry=7.5", "--out", "x", "--json")
    assert ended.code == 2
    assert json.loads(ended.out)["error"]


def test_several_units_go_each_with_its_own_settings(place, ssmith):
    ended = prune(
        ssmith, "mamba", "--cut", "entry=0.5", "--cut", "weight=0.5", "--compensate", "entry:D",
        "--method", "weight:wanda", "--scope", "weight:uniform", "--targets", "weight:in_proj",
        "--out", "small",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    held = read_settings(place / "small" / "recipe.yaml")
    entry, weight = held["cuts"]
    assert (entry["method"], entry["compensate"], entry["targets"]) == ("auto", ["D"], [])
    assert (weight["method"], weight["scope"], weight["targets"]) == (
        "wanda", "uniform", ["in_proj"],
    )  # fmt: skip
    receipt = read_json(place / "small" / "receipt.json")
    assert receipt["removed"]["entry"]["fraction"] == 0.5
    for layer in find_selective(api.load("small")).values():
        weight = layer.mixer.in_proj.weight
        assert int((weight == 0).sum()) == weight.numel() // 2
        assert bool((layer.mixer.out_proj.weight != 0).all())


def test_a_recipe_makes_the_same_model_again(place, ssmith):
    words = ("--cut", "entry=2:4", "--cut", "weight=0.5", "--seed", "3", "--method", "entry:random")
    assert prune(ssmith, "mamba", *words, "--out", "small").code == 0
    again = ssmith("prune", "mamba", "--recipe", "small/recipe.yaml", "--out", "again")
    assert (again.code, again.err) == (0, "")
    digests = [api.inspect(api.load(name)).digest for name in ("small", "again")]
    assert digests[0] == digests[1]
    texts = [(place / name / "recipe.yaml").read_text() for name in ("small", "again")]
    assert texts[0] == texts[1]
    assert "sparsity: '2:4'" in texts[0]
    other = ("--recipe", "small/recipe.yaml", "--seed", "4", "--out", "other")
    assert ssmith("prune", "mamba", *other).code == 0
    assert api.inspect(api.load("other")).digest != digests[0]


def test_a_recipe_may_use_the_words_of_the_flags(place, ssmith):
    text = (
        "cut: {entry: '2:4', weight: 0.5}\nmethod: entry:random\nseed: 3\ndata: text.txt\n"
        "samples: 4\nlength: 24\n"
    )
    (place / "flat.yaml").write_text(text)
    words = ("--cut", "entry=2:4", "--cut", "weight=0.5", "--seed", "3", "--method", "entry:random")
    assert prune(ssmith, "mamba", *words, "--out", "small").code == 0
    assert ssmith("prune", "mamba", "--recipe", "flat.yaml", "--out", "again").code == 0
    digests = [api.inspect(api.load(name)).digest for name in ("small", "again")]
    assert digests[0] == digests[1]


def test_seeds_make_other_models_of_series_too(place, ssmith):
    words = ("prune", "embedded:digits-s5", "--cut", "state=0.5", "--method", "random", "--dry-run")
    found = [
        ssmith(*words, "--seed", seed, "--json").document["receipt"]["model"]["digest_after"]
        for seed in ("1", "2", "1")
    ]
    assert found[0] == found[2] != found[1]


def test_blocks_go_and_leave_a_shallower_model(place, ssmith):
    ended = prune(ssmith, "falcon", "--cut", "block=1", "--out", "small")
    assert (ended.code, ended.err) == (0, "")
    assert len(find_selective(api.load("small"))) == 1
    receipt = read_json(place / "small" / "receipt.json")
    assert receipt["removed"]["block"]["after"] == 1
    assert receipt["memory"]["measured"]["peak"] > 10**7


def test_a_text_may_stand_under_another_key(place, ssmith):
    rows = [json.dumps({"line": LINES}) for _ in range(8)]
    (place / "lines.jsonl").write_text("\n".join(rows))
    asked = ("--cut", "entry=0.5", "--out", "small")
    assert prune(ssmith, "mamba", *asked, data="lines.jsonl").code == 2
    assert prune(ssmith, "mamba", *asked, "--field", "line", data="lines.jsonl").code == 0


def test_the_command_refuses_before_it_reads_any_data(ssmith, tmp_path):
    tiny_hybrid("bamba").save_pretrained(tmp_path / "model")
    cut = ("prune", tmp_path / "model", "--cut", "state=0.5", "--out", tmp_path / "out")
    ended = ssmith(*cut, "--method", "balanced", "--target", "stock", "--data", "/no/such/text")
    assert ended.code == 2
    assert "stock would not open the result" in ended.err
    assert not (tmp_path / "out").exists()


def test_data_that_nobody_reads_are_told_of(ssmith):
    cut = ("prune", "embedded:vowels-s5", "--cut", "state=0.5", "--data", "embedded:vowels")
    unread = ssmith(*cut, "--dry-run", "--method", "last")
    assert "note: the data are not read" in unread.out + unread.err
    read = ssmith(*cut, "--samples", "16", "--dry-run", "--method", "state-obs")
    assert read.code == unread.code == 0
    assert "not read" not in read.out + read.err
