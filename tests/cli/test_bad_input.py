"""Every mistake: one line on stderr, the right exit code, and nothing written."""

import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cli.conftest import listing
from helpers.plans import random_plan
from helpers.toy import CLASSES, tiny_data, tiny_model
from ssmith import api
from ssmith.core import directories
from ssmith.data import save_npz

PRUNE = ("prune", "model", "--out", "small")
EVAL = ("eval", "model", "--data")
PILOT = ("pilot", "model", "--data", "data.npz", "--out", "pilot")
COMPARE = ("compare", "model", "model", "--data", "data.npz", "--out", "page")


def weights(change):
    """Change the tensors of the saved model."""

    def prepare():
        path = Path("model/model.safetensors")
        save_file(change(load_file(path)), path)

    return prepare


def config(**changes):
    def prepare():
        path = Path("model/config.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return prepare


def model_config(**changes):
    def prepare():
        path = Path("model/config.json")
        content = json.loads(path.read_text())
        content["config"].update(changes)
        path.write_text(json.dumps(content))

    return prepare


def with_nan(tensors):
    return {**tensors, "head.bias": tensors["head.bias"] * float("nan")}


def foreign(tensors):
    return {"transformer.h.0.weight": torch.zeros(2, 2)}


def truncated():
    path = Path("model/model.safetensors")
    path.write_bytes(path.read_bytes()[:100])


def pickled():
    Path("model.pkl").write_bytes(pickle.dumps({"a": 1}))


def pickle_in_place():
    Path("model/model.safetensors").unlink()
    Path("model/pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))


def transformers_model():
    Path("model/config.json").write_text(json.dumps({"model_type": "llama"}))


def data(**arrays):
    def prepare():
        with np.load("data.npz") as found:
            content = dict(found)
        np.savez("bad.npz", **{**content, **arrays})

    return prepare


def other_data(**settings):
    return lambda: save_npz(tiny_data(**settings), "bad.npz")


def nan_data():
    with np.load("data.npz") as found:
        content = dict(found)
    content["x"][3, 0, 0] = np.nan
    np.savez("bad.npz", **content)


def plan(change=lambda content: None, seed=0):
    """Write a plan for a model, changed."""

    def prepare():
        made = random_plan(tiny_model(seed=seed) if seed else api.load("model"))
        content = json.loads(made.files()["plan.json"])
        change(content)
        Path("plan.json").write_text(json.dumps(content))

    return prepare


def site(**changes):
    return lambda content: content["cuts"][0]["sites"]["blocks.0.ssm"].update(changes)


def first(**changes):
    return lambda content: content["cuts"][0].update(changes)


def keep(indices):
    return site(keep=indices)


def grid(shape):
    return site(grid=shape)


def recipe(**changes):
    content = {
        "data": "data.npz",
        "model": {"family": "s5", "width": 4, "states": [4]},
        "fit": {"epochs": 1},
    }

    def prepare():
        merged = {
            key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value
            for key, value in {**changes, **content}.items()
        }
        Path("recipe.json").write_text(json.dumps(merged))

    return prepare


def text(name, content):
    return lambda: Path(name).write_text(content)


def nothing():
    pass


TRAIN = ("train", "recipe.json", "--out", "trained")
BY_PLAN = (*PRUNE, "--plan-in", "plan.json")
# (name, what to prepare, words, exit code, a word of the message)
CASES = [
    ("no command", nothing, (), 2, "COMMAND"),
    ("unknown command", nothing, ("prun",), 2, "did you mean 'prune'"),
    ("unknown flag", nothing, ("inspect", "model", "--nope"), 2, "see `ssmith inspect --help`"),
    ("flag cut short", nothing, (*PRUNE, "--cu", "state=0.5"), 2, "did you mean '--cut'"),
    ("flag misspelt", nothing, (*PRUNE, "--cuts=state=0.5"), 2, "did you mean '--cut'"),
    ("no model", nothing, ("inspect",), 2, "MODEL"),
    ("ratio below", nothing, (*PRUNE, "--cut", "state=-0.1"), 2, "[0, 1)"),
    ("ratio one", nothing, (*PRUNE, "--cut", "state=1.0"), 2, "[0, 1)"),
    ("ratio above", nothing, (*PRUNE, "--cut", "state=1.5"), 2, "sparsity of state is 1.5"),
    ("ratio nan", nothing, (*PRUNE, "--cut", "state=nan"), 2, "[0, 1)"),
    ("ratio word", nothing, (*PRUNE, "--cut", "state=abc"), 2, "'abc' is not a number"),
    ("ratio missing", nothing, PRUNE, 2, "--cut state=0.33 removes"),
    ("out missing", nothing, ("prune", "model", "--cut", "state=0.5"), 2, "e.g. --out pruned"),
    ("no data to refit on", nothing, (*PRUNE, "--cut", "state=0.5", "--method", "state-obs"), 2,
     "give rows of the kind"),
    ("pilot's data", nothing, ("pilot", "model", "--out", "pilot"), 2,
     "an example: `ssmith pilot embedded:digits-s5 --data embedded:digits"),
    ("eval's data", nothing, ("eval", "model"), 2, "ssmith list"),
    ("tune's data", nothing, ("tune", "model", "--method", "bitfit", "--out", "tuned"), 2,
     "ssmith list"),
    ("tune's method", nothing, ("tune", "model", "--data", "data.npz", "--out", "tuned"), 2,
     "state-offset-y"),
    ("method", nothing, (*PRUNE, "--cut", "state=0.5", "--method", "lst"), 2,
     "did you mean 'last'"),
    ("setting", nothing, (*PRUNE, "--cut", "state=0.5", "--set", "varaint=red"), 2,
     "did you mean 'variant'"),
    ("setting's form", nothing, (*PRUNE, "--cut", "state=0.5", "--set", "norm"), 2, "NAME=VALUE"),
    ("seed below", nothing, (*EVAL, "data.npz", "--metric", "cross-entropy", "--seed", "-1"),
     2, "integer ≥ 0"),
    ("floor below", nothing, (*PRUNE, "--cut", "state=0.5", "--min-per-layer", "-1"), 2, "≥ 0"),
    ("floor too high", nothing, (*PRUNE, "--cut", "state=0.5", "--min-per-layer", "5"), 2,
     "at most"),
    ("missing model", nothing, ("inspect", "./nowhere"), 2, "nowhere"),
    ("model is a file", nothing, ("inspect", "data.npz"), 2, "a model directory"),
    ("embedded model", nothing, ("inspect", "embedded:nope"), 2, "nope"),
    ("a pickle", pickled, ("inspect", "model.pkl"), 2, "pickle"),
    ("a pickle inside", pickle_in_place, ("inspect", "model"), 2, "pickle"),
    ("truncated", truncated, (*PRUNE, "--cut", "state=0.5"), 2, "truncated"),
    ("foreign weights", weights(foreign), (*PRUNE, "--cut", "state=0.5"), 2, "restore"),
    ("model type", transformers_model, (*PRUNE, "--cut", "state=0.5"), 2, "'llama'"),
    ("family", model_config(family="s6"), (*PRUNE, "--cut", "state=0.5"), 2, "'s6'"),
    ("states below", model_config(states=[-3, 6]), ("inspect", "model"), 2, "states"),
    ("classes", model_config(classes=["a"]), ("inspect", "model"), 2, "1 classes"),
    ("version", config(version=99), ("inspect", "model"), 2, "99"),
    ("not JSON", text("model/config.json", "{"), ("inspect", "model"), 2, "JSON"),
    ("NaN weights", weights(with_nan), (*PRUNE, "--cut", "state=0.5"), 2, "non-finite"),
    ("no manifest", lambda: Path("model/manifest.json").unlink(), ("verify", "model"), 2,
     "manifest"),
    ("bad manifest", text("model/manifest.json", "[]"), ("verify", "model"), 2, "manifest"),
    ("no data", nothing, (*EVAL, "nowhere.npz"), 2, "nowhere.npz"),
    ("kind of data", nothing, (*EVAL, "model"), 2, ".npz"),
    ("embedded data", nothing, (*EVAL, "embedded:digit"), 2, "did you mean embedded:digits"),
    ("broken data", text("bad.npz", "PK?"), (*EVAL, "bad.npz"), 2, "bad.npz"),
    ("channels", other_data(channels=3), (*EVAL, "bad.npz"), 2, "channel"),
    ("classes of data", other_data(classes=(*CLASSES, "d")), (*EVAL, "bad.npz"), 2, "d"),
    ("label count", data(y=np.zeros(5, dtype=np.int64)), (*EVAL, "bad.npz"), 2, "5"),
    ("NaN data", nan_data, (*EVAL, "bad.npz"), 2, "finite"),
    ("split", nothing, (*EVAL, "data.npz", "--split", "tst"), 2, "did you mean 'test'"),
    ("metric", nothing, (*EVAL, "data.npz", "--metric", "acuracy"), 2,
     "did you mean 'accuracy'"),
    ("metric of another task", nothing, (*EVAL, "data.npz", "--metric", "rmse"), 2, "accuracy"),
    ("batch size", nothing, (*EVAL, "data.npz", "--batch-size", "0"), 2, "≥ 1"),
    ("out exists", lambda: Path("small").mkdir() or Path("small/a").touch(),
     (*PRUNE, "--cut", "state=0.5"), 2, "--overwrite"),
    ("out is a file", text("small", ""), (*PRUNE, "--cut", "state=0.5"), 2, "--overwrite"),
    ("out below a file", nothing, ("prune", "model", "--cut", "state=0.5", "--out", "data.npz/a"),
     2, "data.npz"),
    ("out is the model", nothing,
     ("prune", "model", "--cut", "state=0.5", "--out", "model", "--overwrite"), 2, "input"),
    ("out holds the model", nothing,
     ("compare", "model", "model", "--data", "data.npz", "--out", ".", "--overwrite"), 2, "input"),
    ("pilot's out holds the data", nothing,
     ("pilot", "model", "--data", "data.npz", "--out", ".", "--overwrite"), 2, "input"),
    ("plan missing", nothing, BY_PLAN, 2, "plan.json"),
    ("plan and ratio", plan(), (*BY_PLAN, "--cut", "state=0.5"), 2, "both decide"),
    ("plan of another model", plan(seed=1), BY_PLAN, 2, "the plan is for weights"),
    ("plan of another model, dry", plan(seed=1),
     ("prune", "model", "--dry-run", "--plan-in", "plan.json"), 2, "the plan is for weights"),
    ("plan's index", plan(keep([0, 6])), BY_PLAN, 2, "index 6"),
    ("plan's index below", plan(keep([-1])), BY_PLAN, 2, "index -1"),
    ("plan's index text", plan(keep(["a"])), BY_PLAN, 2, "'a'"),
    ("plan's index true", plan(keep([True])), BY_PLAN, 2, "True"),
    ("plan's keep", plan(keep(3)), BY_PLAN, 2, "a list"),
    ("plan's grid", plan(grid([7])), BY_PLAN, 2, "(7,)"),
    ("plan's grid below", plan(grid([-1])), BY_PLAN, 2, "grid"),
    ("plan's grid text", plan(grid(["a"])), BY_PLAN, 2, "grid"),
    ("plan's grid huge", plan(grid([10**15])), BY_PLAN, 2, "grid"),
    ("plan's layers", plan(first(sites=[])), BY_PLAN, 2, "sites"),
    ("plan's unit", plan(first(unit="heads")), BY_PLAN, 2, "heads"),
    ("plan's criterion", plan(first(method=3)), BY_PLAN, 2, "method"),
    ("plan's key", plan(lambda item: item.update(extra=1)), BY_PLAN, 2, "extra"),
    ("plan's NaN", plan(first(threshold=float("nan"))), BY_PLAN, 2, "NaN"),
    ("max loss", nothing, (*PILOT, "--max-loss", "-1"), 2, "≥ 0"),
    ("max loss nan", nothing, (*PILOT, "--max-loss", "nan"), 2, "≥ 0"),
    ("fractions", nothing, (*PILOT, "--at", "0.1,1.2"), 2, "< 1"),
    ("fractions words", nothing, (*PILOT, "--at", "0.1;0.2"), 2, "not a number"),
    ("fractions empty", nothing, (*PILOT, "--at", ""), 2, "at least one"),
    ("baseline", nothing, (*PILOT, "--baselines", "aire,rndom"), 2, "did you mean 'random'"),
    ("threads", nothing, (*PILOT, "--threads", "0"), 2, "≥ 1"),
    ("speed seconds", nothing, (*PILOT, "--speed-seconds", "0"), 2, "> 0"),
    ("price", nothing, (*PILOT, "--price-per-hour", "-3"), 2, "≥ 0"),
    ("own metric", nothing, (*PILOT, "--own-metric", "mine"), 2, "function"),
    ("own metric's file", nothing, (*PILOT, "--own-metric", "mine.py:f"), 2, "mine.py"),
    ("compare own metric", nothing, (*COMPARE, "--own-metric", "math:nope"), 2, "nope"),
    ("compare seconds", nothing, (*COMPARE, "--speed-seconds", "nan"), 2, "> 0"),
    ("unlike models", lambda: api.save(tiny_model(channels=3), "wide"),
     ("compare", "model", "wide", "--data", "data.npz"), 2, "channels"),
    ("no receipt", nothing, ("report", "receipt.json", "--out", "page"), 2, "receipt.json"),
    ("not a receipt", text("receipt.json", "{}"), ("report", "receipt.json", "--out", "page"),
     2, "not a receipt"),
    ("no recipe", nothing, TRAIN, 2, "recipe.json"),
    ("recipe's JSON", text("recipe.json", '{"data": 1,}'), TRAIN, 2, "correct the file at line 1"),
    ("recipe's kind", recipe(kind="languge"), TRAIN, 2, "did you mean 'language'"),
    ("not a recipe", text("recipe.json", "[1]"), TRAIN, 2, "no mapping of settings"),
    ("recipe's model", recipe(model={"depth": 3}), TRAIN, 2, "depth"),
    ("recipe's width", recipe(model={"width": -3}), TRAIN, 2, "width"),
    ("recipe's fit", recipe(fit={"epoch": 3}), TRAIN, 2, "did you mean 'epochs'"),
    ("recipe's epochs", recipe(fit={"epochs": 0}), TRAIN, 2, "epochs"),
    ("device", recipe(), (*TRAIN, "--device", "gpu"), 2, "cuda"),
    ("device not there", recipe(), (*TRAIN, "--device", "cuda:99"), 2, "not there"),
    ("train's seed", recipe(), (*TRAIN, "--seed", "-1"), 2, "≥ 0"),
]  # fmt: skip
# Values of a wrong type reach the checks of the package only where no type checker runs.
ILL_TYPED = [
    ("mode", nothing, (*PRUNE, "--cut", "state=0.5", "--mode", "shrnk"), 2,
     "did you mean 'shrink'"),
    ("seed that nothing draws by", nothing, (*PRUNE, "--cut", "state=0.5", "--seed", "3"), 2,
     "seed without data"),
    ("batch of no rows", nothing, (*PRUNE, "--cut", "state=0.5", "--batch-size", "3"), 2,
     "batch_size without data"),
    ("method of weights", nothing, (*PRUNE, "--cut", "state=0.5", "--method", "sparsegpt"), 2,
     "sparsegpt is a method for weights"),
    ("method of groups", nothing, (*PRUNE, "--cut", "state=0.5", "--method", "ghost"), 2,
     "ghost is a method for states of Mamba-2's groups"),
    ("setting's value", nothing, (*PRUNE, "--cut", "state=0.5", "--set", "norm=x"), 2, "'exact'"),
    ("width text", model_config(width="six"), ("inspect", "model"), 2, "width"),
    ("recipe's family", recipe(model={"family": "s6"}), TRAIN, 2, "did you mean 's5'"),
    ("recipe's width text", recipe(model={"width": "x"}), TRAIN, 2, "width"),
    ("recipe's states", recipe(model={"states": ["x"]}), TRAIN, 2, "states"),
    ("recipe's rate", recipe(fit={"lr": "high"}), TRAIN, 2, "lr"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("prepare", "words", "code", "said"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_mistake(place, ssmith, prepare, words, code, said):
    prepare()
    before = listing(place.parent)
    ended = ssmith(*words)
    assert ended.code == code, ended.err
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert said in ended.err
    assert ended.out == ""
    assert listing(place.parent) == before
    as_json = ssmith(*words, "--json")
    assert as_json.code == code
    error = as_json.document["error"]
    assert set(error) == {"kind", "message", "allowed", "next_step"}
    assert said in " ".join(error.values())
    assert listing(place.parent) == before


UNCHECKED = """
import contextlib, io, json, sys
from ssmith.cli.main import main
ended = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as err:
        ended.append([main(words), err.getvalue()])
json.dump(ended, sys.stdout)
"""


def test_mistakes_of_type(place):
    shutil.copytree("model", place.parent / "clean")
    lines = []
    for index, (_, prepare, words, _, _) in enumerate(ILL_TYPED):
        prepare()
        # Each case reads its own copy of what was prepared.
        for name in ("model", "recipe.json"):
            if Path(name).exists():
                copy = shutil.copytree if Path(name).is_dir() else shutil.copy
                copy(name, f"{index}-{name}")
        shutil.rmtree("model")
        shutil.copytree(place.parent / "clean", "model")
        lines.append(
            [f"{index}-{word}" if Path(f"{index}-{word}").exists() else word for word in words]
        )
    before = listing(place)
    ended = subprocess.run(
        (sys.executable, "-c", UNCHECKED),
        input=json.dumps(lines),
        capture_output=True,
        check=True,
        text=True,
    )
    for (name, _, _, code, said), (found, err) in zip(
        ILL_TYPED, json.loads(ended.stdout), strict=True
    ):
        assert (found, err.count("\n"), said in err) == (code, 1, True), (name, err)
    assert listing(place) == before


HIDDEN = [
    ("matplotlib", (*COMPARE, "--speed-seconds", "0.01"), "ssmith[report]"),
    ("sklearn", (*EVAL, "embedded:digits"), "ssmith[data]"),
    ("huggingface_hub", ("inspect", "owner/name"), "ssmith[hub]"),
]


@pytest.mark.parametrize(("package", "words", "said"), HIDDEN, ids=[case[0] for case in HIDDEN])
def test_a_missing_extra_is_named(place, ssmith, monkeypatch, package, words, said):
    real = importlib.import_module

    def hide(name, *more):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *more)

    monkeypatch.setattr(importlib, "import_module", hide)
    before = listing(place)
    ended = ssmith(*words)
    assert ended.code == 3
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert listing(place) == before


def refuse_fsync(descriptor):
    raise OSError(28, "No space left on device")


def refuse_rename(self, target):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name", "broken"),
    [(os, "fsync", refuse_fsync), (Path, "rename", refuse_rename)],
    ids=["fsync", "rename"],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_leaves_what_was_there(
    place, ssmith, monkeypatch, owner, name, broken, overwrite
):
    words = (*PRUNE, "--cut", "state=0.5")
    if overwrite:
        assert ssmith(*words).code == 0
        words = (*PRUNE, "--cut", "state=0.2", "--overwrite")
    before = listing(place)
    monkeypatch.setattr(owner, name, broken)
    # Without the exchange of two names in one call, a replacement renames.
    monkeypatch.setattr(directories, "_exchange", lambda *_: False)
    ended = ssmith(*words)
    assert ended.code == 2
    assert "No space left on device" in ended.err
    assert ended.err.count("\n") == 1
    assert listing(place) == before


def test_a_read_only_place(place, ssmith, monkeypatch):
    def refuse(*more, **settings):
        raise PermissionError(13, "Permission denied", "small")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    before = listing(place)
    ended = ssmith(*PRUNE, "--cut", "state=0.5")
    assert ended.code == 2
    assert "Permission denied" in ended.err
    assert listing(place) == before


def test_a_message_stays_on_one_line(place, ssmith):
    Path("mine.py").write_text("def f(outputs, y):\n    raise ValueError('a\\nb\\x1b[2J')\n")
    ended = ssmith(*COMPARE, "--own-metric", "mine.py:f", "--speed-seconds", "0.01")
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert "a b?[2J" in ended.err


def test_a_json_error_has_the_parts_of_the_message(place, ssmith):
    found = ssmith("prune", "model", "--cut", "state=1.5", "--out", "small", "--json").document
    assert found["error"]["kind"] == "InputError"
    assert found["error"]["allowed"].startswith("a share to remove in [0, 1)")


@pytest.mark.parametrize(
    "words",
    [
        PILOT,
        (*EVAL, "data.npz"),
        ("merge", "model", "--out", "m"),
        (*PRUNE, "--sweep", "samples=1"),
    ],
    ids=["pilot", "eval", "merge", "sweep"],
)
def test_what_several_processes_do_not_share_is_refused_in_each(place, ssmith, monkeypatch, words):
    before = listing(place)
    monkeypatch.setenv("WORLD_SIZE", "2")
    ended = ssmith(*words)
    assert ended.code == 2
    assert f"ssmith {words[0]}" in ended.err
    assert "in 2 processes; allowed: one process" in ended.err
    assert listing(place) == before


def test_a_count_of_processes_that_is_none_is_said(place, ssmith, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    ended = ssmith(*PILOT)
    assert ended.code == 2
    assert "the environment says WORLD_SIZE=two" in ended.err
