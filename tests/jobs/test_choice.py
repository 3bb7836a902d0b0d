"""A model from data alone: what is chosen is written down, and gives the same model."""

import csv
import json
import math

import numpy as np
import pytest
import torch

from helpers.command import ended
from jobs.toy import toy
from recordings import plant
from ssmith import api
from ssmith.core.preparation import PrepareConfig
from ssmith.core.sequences import SequenceData
from ssmith.jobs.train import ChoiceConfig, choice, chosen_recipe
from ssmith.recordings import prepare
from ssmith.tune.training.objectives import AnswerObjective


class Same(torch.nn.Module):
    """Answers what it is given."""

    def forward(self, x):
        return x


GIVEN = (
    "--sequence", "machine", "--time", "ts", "--label", "state", "--group", "plant",
    "--task", "classification", "--epochs", "6", "--lr", "0.01", "--layers", "2",
)  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plant.write(tmp_path / "plant.csv", plant.rows())
    return tmp_path


def test_one_command_makes_a_model_that_its_recipe_makes_again(place, capsys):
    done = ended(capsys, "train", "--data", "plant.csv", *GIVEN, "--out", "one")
    assert done.code == 0, done
    assert "always naming the most frequent class" in done.out
    recipe = json.loads((place / "one" / "recipe.json").read_text())
    assert recipe["prepare"]["window"] and recipe["fit"]["lr"] == 0.01
    assert ended(capsys, "train", "one/recipe.json", "--out", "two").code == 0
    first, second = api.load("one"), api.load("two")
    assert first.preparation == second.preparation
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    found = api.evaluate(first, api.load_data("plant.csv", first).split("test"))
    assert found.value > found.naive.value


def test_what_is_missing_is_asked_for(place, capsys):
    done = ended(capsys, "train", "--out", "one")
    assert done.code == 2 and "neither a recipe nor data" in done.err
    done = ended(capsys, "train", "--data", "plant.csv", *GIVEN[:-8], "--out", "one")
    assert done.code == 2 and "--task classification" in done.err
    assert not (place / "one").exists()


def test_the_usual_rate_is_tried_and_taken(place, monkeypatch):
    config = PrepareConfig(
        task="classification", sequence="machine", time="ts", label=("state",), group="plant"
    )
    made = prepare("plant.csv", config)
    said = []
    recipe = chosen_recipe(
        "plant.csv", made.data, made.preparation, ChoiceConfig(epochs=2, width=8, states=8),
        progress=lambda stage, done, total, note="": said.append(note),
    )  # fmt: skip
    assert said == ["0.004", "0.001"] and recipe.fit["lr"] == 0.004
    # What is too high shows at once, and is lowered as far as it helps.
    for losses, rate in (((9, 2, 1.9), 0.001), ((math.inf, 2, 1), 0.00025), ((1, 0.95), 0.004)):
        left = iter(losses)
        monkeypatch.setattr(choice, "_loss", lambda *_, left=left: next(left))
        recipe = chosen_recipe("plant.csv", made.data, made.preparation, ChoiceConfig())
        assert recipe.fit["lr"] == rate and next(left, None) is None


def test_rare_classes_count_as_much_as_others():
    weights = (4 / 3, 2 / 3)
    answers, target = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 1])
    each = torch.nn.functional.cross_entropy(answers, target, reduction="none")
    objective = AnswerObjective(task="classification", weights=weights)
    want = (each[target == 0].sum() * 4 / 3 + each[target == 1].sum() * 2 / 3) / 6
    found = objective.loss(Same(), {"x": answers, "target": target})
    torch.testing.assert_close(found, want)


def test_labels_that_may_be_together_have_a_loss_each():
    answers, target = torch.randn(5, 3), torch.randint(2, (5, 3)).float()
    objective = AnswerObjective(task="multi-label")
    found = objective.loss(Same(), {"x": answers, "target": target})
    p = answers.sigmoid()
    want = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    torch.testing.assert_close(found, want)


def test_an_imbalanced_set_is_balanced_and_its_own_rows_decide(place):
    data = toy()
    part = data.split("train")
    few = (part.y == 0) | (torch.arange(len(part)) % 8 == 0)
    rare = SequenceData(
        name="rare", task=data.task, classes=data.classes,
        splits={**data.splits, "train": part.take(few.nonzero().flatten())},
    )  # fmt: skip
    settings = ChoiceConfig(lr=0.01, epochs=1)
    assert chosen_recipe("x", rare, None, settings).fit["balance"] == 1.0
    assert chosen_recipe("x", data, None, settings).fit["balance"] == 0.0


def test_a_model_of_a_rare_class_that_learned_nothing_is_told(place, capsys):
    draw = np.random.default_rng(0)
    rows = ["sequence,a,b,label"]
    for number in range(172):
        label = "usual" if number % 43 else "rare"
        rows += [f"s{number},{a:.3f},{b:.3f},{label}" for a, b in draw.normal(size=(4, 2))]
    (place / "rare.csv").write_text("\n".join(rows))
    done = ended(
        capsys, "train", "--data", "rare.csv", "--task", "classification", "--epochs", "1",
        "--lr", "1e-6", "--width", "4", "--states", "2", "--layers", "1", "--out", "m", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = done.document["validation"]
    assert "weak-model" in [item["kind"] for item in found["findings"]]
    balanced = found["measures"][0]
    assert balanced["name"] == "balanced accuracy"
    assert abs(balanced["value"] - balanced["naive"]) < 0.3


def test_a_wanted_rate_of_false_alarms_is_kept_with_the_model(place, capsys):
    wish = ("--positive", "failing", "--false-alarms", "0.2")
    done = ended(capsys, "train", "--data", "plant.csv", *GIVEN, *wish, "--out", "one")
    assert done.code == 0, done
    model = api.load("one")
    part = api.load_data("plant.csv", model).split("validation")
    limit = model.preparation.thresholds["failing"]
    with torch.no_grad():
        alarms = model(part.x, part.lengths).softmax(-1)[part.y == 1, 0] >= limit
    # The next lower one of its probabilities would allow more than one in five.
    assert alarms.double().mean() <= 0.2 < (alarms.sum() + 1) / (len(alarms) + 1) + 0.1
    assert ended(capsys, "predict", "one", "--data", "plant.csv", "--out", "said.csv").code == 0
    rows = list(csv.DictReader((place / "said.csv").read_text().splitlines()))
    for row in rows:
        assert (row["label"] == "failing") == (float(row["p failing"]) >= limit)
    assert ended(capsys, "train", "one/recipe.json", "--out", "two").code == 0
    assert api.load("two").preparation == model.preparation
    done = ended(
        capsys, "train", "--data", "plant.csv", *GIVEN, "--positive", "x", "--recall", "0.5",
        "--out", "three",
    )  # fmt: skip
    assert done.code == 2 and "failing, fine" in done.err
