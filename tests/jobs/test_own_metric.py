"""The user's own metric chooses what is kept, in a training and in a tuning, in its own units."""

import json
from dataclasses import replace

import numpy as np
import pytest

from helpers.command import ended
from jobs.toy import FIT, recipe, toy
from ssmith import api
from ssmith.core.errors import InputError
from ssmith.core.settings import from_mapping, read_settings, to_mapping
from ssmith.evaluation import answers_of_own
from ssmith.jobs.train import Recipe, save_trained, train
from ssmith.jobs.tuning import TuneConfig, fine_tune

LEANING = "def leaning(outputs, y):\n    return float(outputs[:, 0].mean())\n"


@pytest.fixture
def metric(tmp_path):
    """The mean of the first answer: learning neither raises nor lowers it for good."""
    path = tmp_path / "mine.py"
    path.write_text(LEANING)
    return f"{path}:leaning"


def leaning(model, split="validation"):
    outputs, _ = answers_of_own(model, toy().split(split))
    return float(outputs[:, 0].mean())


@pytest.mark.parametrize("lower", [False, True])
def test_it_chooses_the_epoch(shelf, metric, lower, tmp_path):
    plain = recipe(shelf / "data.npz", fit={**FIT, "patience": 6})
    how = replace(plain, own_metric=metric, own_lower_is_better=lower)
    done = train(how)
    seen = [look.score[0] for look in done.training.looks]
    assert done.training.best_step == 6 * (1 + int(np.argmax(seen))) and len(set(seen)) == 6
    assert leaning(done.model) == pytest.approx(-max(seen) if lower else max(seen), abs=1e-6)
    save_trained(done, tmp_path / "model")
    assert Recipe.load(tmp_path / "model" / "recipe.json") == how
    assert "mine.py:leaning, test" in (tmp_path / "model" / "README.md").read_text()


def test_it_stops_early(shelf, metric):
    """What never becomes better stops a training as soon as it may."""
    fit = {**FIT, "patience": 2, "lr": 1e-30, "ssm_lr": 1e-30}
    done = train(replace(recipe(shelf / "data.npz", fit=fit), own_metric=metric))
    assert done.training.stopped_early and len(done.training.looks) == 3


@pytest.mark.parametrize("lower", [False, True])
def test_it_chooses_the_step_of_a_tuning(shelf, metric, lower, tmp_path):
    training = {"steps": 6, "evaluate_every": 1, "rate": 0.3, "batch_size": 16}
    given = {
        "methods": ["state-offset-y", {"method": "parameters", "targets": ["head"]}],
        "data": str(shelf / "data.npz"), "training": training,
        "own_metric": metric, "own_lower_is_better": lower,
    }  # fmt: skip
    job = from_mapping(TuneConfig, given, where="settings")
    done = fine_tune(shelf / "model", job, out=tmp_path / "tuned")
    values = [look.validation["own_metric"] for look in done.training.looks]
    best = min(values) if lower else max(values)
    assert done.training.best_step == values.index(best) and len(set(values)) == 7
    assert leaning(api.load(tmp_path / "tuned")) == pytest.approx(best, abs=1e-6)
    assert read_settings(tmp_path / "tuned" / "recipe.yaml")["own_metric"] == metric
    receipt = json.loads((tmp_path / "tuned" / "receipt.json").read_text())
    assert receipt["method"]["settings"]["own_lower_is_better"] is lower
    judged = receipt["quality"][f"{metric}, {'lower' if lower else 'higher'} is better"]
    before, after = (leaning(api.load(place), "test") for place in (
        shelf / "model", tmp_path / "tuned"))  # fmt: skip
    assert judged["before"]["value"] == pytest.approx(before, abs=1e-6)
    assert judged["after"]["value"] == pytest.approx(after, abs=1e-6)
    gap = judged["difference"]
    assert gap["low"] < gap["value"] < gap["high"]
    assert gap["value"] == pytest.approx(after - before, abs=1e-6)


def test_it_is_given_quantities_in_their_own_units(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = ["run,t,x,load"]
    for run in range(40):
        level = 1000 + 50 * rng.normal()
        lines += [f"{run},{t},{level / 100 + rng.normal():.4f},{level:.4f}" for t in range(6)]
    (tmp_path / "runs.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "own.py").write_text(
        "def truth(outputs, y):\n    return float(y.mean())\n"
        "def off(outputs, y):\n    assert outputs.shape == y.shape, (outputs.shape, y.shape)\n"
        "    return float(abs(outputs - y).mean())\n"
    )
    given = ("--data", "runs.csv", "--sequence", "run", "--time", "t", "--label", "load",
             "--window-label", "last", "--task", "regression", "--epochs", "3", "--lr",
             "0.01")  # fmt: skip
    done = ended(
        capsys, "train", *given, "--out", "model", "--own-metric", "own.py:off",
        "--own-lower-is-better", "--json",
    )  # fmt: skip
    assert done.code == 0, done
    found = {item["name"]: item["value"] for item in done.document["validation"]["measures"]}
    assert found["own.py:off"] == pytest.approx(found["MAE"], rel=1e-5)
    seen = ended(
        capsys, "eval", "model", "--data", "runs.csv", "--own-metric", "own.py:truth", "--json"
    )
    (measure,) = [item for item in seen.document["measures"] if item["name"] == "own.py:truth"]
    assert 900 < measure["value"] < 1100
    assert to_mapping(Recipe.load(tmp_path / "model" / "recipe.json"))["own_metric"] == "own.py:off"


def test_it_is_refused_where_it_cannot_apply(tmp_path, metric, capsys, shelf):
    with pytest.raises(InputError, match="own_metric is for models of classes or numbers"):
        Recipe(kind="language", data={"text": "x"}, model={}, fit={"steps": 1}, own_metric=metric)
    with pytest.raises(InputError, match="own_lower_is_better without own_metric"):
        replace(recipe(shelf / "data.npz", fit=FIT), own_lower_is_better=True)
    done = ended(
        capsys, "train", "--data", str(shelf / "data.npz"), "--task", "classification",
        "--own-metric", f"{metric}s", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.code == 2 and "has no function 'leanings'" in done.err
