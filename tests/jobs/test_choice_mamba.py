"""A Mamba under a head, from data alone, is a model like any other: cut, tuned, stepped, saved."""

import json

import pytest
import torch

from helpers.command import ended
from recordings import plant
from ssmith import adapters, api, spine
from ssmith.cli.main import main
from ssmith.core.budget import Budget
from ssmith.core.errors import ArtefactError
from ssmith.serving import predict, stream

GIVEN = (
    "--sequence", "machine", "--time", "ts", "--label", "state", "--group", "plant", "--task",
    "classification", "--family", "mamba", "--width", "8", "--layers", "1", "--states", "4",
    "--epochs", "4", "--lr", "0.02", "--stride", "16",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    path = tmp_path_factory.mktemp("mamba")
    plant.write(path / "plant.csv", plant.rows(machines=12, steps=64))
    return path


@pytest.fixture(scope="module")
def model(place):
    out = place / "model"
    assert main(["train", "--data", str(place / "plant.csv"), *GIVEN, "--out", str(out)]) == 0
    return out


def test_the_recipe_makes_it_again_and_says_all(place, model, capsys):
    recipe = json.loads((model / "recipe.json").read_text())
    assert recipe["model"] == {
        "family": "mamba", "layers": 1, "pooling": "mean", "states": 4, "width": 8,
    }  # fmt: skip
    done = ended(capsys, "train", str(model / "recipe.json"), "--out", str(place / "again"))
    assert done.code == 0, done.err
    first, second = api.load(model), api.load(place / "again")
    assert first.preparation == second.preparation
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_step_by_step_it_answers_as_to_the_whole(place, model):
    loaded = api.load(model)
    rows = plant.rows(machines=12, steps=64)
    window = loaded.preparation.config.window
    served = stream(loaded)
    for row in [row for row in rows if row[0] == "m3"][:window]:
        said = served.step([list(row[2:4])], ["m3"])
    whole = predict(loaded, place / "plant.csv")
    row_of = whole.columns["name"].index("m3")
    assert whole.columns["start"][row_of] == "0" and whole.columns["stop"][row_of] == str(window)
    assert (said.outputs[0] - whole.outputs[row_of]).abs().max() < 1e-6


def test_cut_or_tuned_and_saved_it_answers_as_before(place, model):
    data, loaded = place / "plant.csv", api.load(model)
    before = predict(loaded, data)
    rows = api.load_data(data, loaded).split("train").first(4)
    plan = spine.plan(loaded, Budget("state", 0.5, method="random"), rows)
    api.prune_(loaded, plan, mode="shrink")
    cut = predict(loaded, data)
    assert not torch.equal(cut.outputs, before.outputs)
    api.save(loaded, place / "cut")
    assert torch.equal(predict(api.load(place / "cut"), data).outputs, cut.outputs)
    tuned = api.load(model)
    adapters.attach_(tuned, adapters.StateOffset(form="h"), prove=False)
    api.save_adapter(tuned, place / "tuned", base=str(model))
    assert torch.allclose(predict(api.load(place / "tuned"), data).outputs, before.outputs)


def test_a_size_that_the_weights_do_not_hold_is_refused(place, model):
    api.save(api.load(model), place / "large")
    path = place / "large" / "config.json"
    content = json.loads(path.read_text())
    content["size"]["width"] = 10**9
    path.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match="size"):
        api.load(place / "large")
