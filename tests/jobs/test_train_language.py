"""Training a language model from a recipe: same bytes, resumed or not, and an honest card."""

import dataclasses
import json
import sys
from importlib import metadata

import pytest
import torch

from jobs.language import FIT, recipe, trained, write_text
from jobs.toy import contents
from ssmith import api
from ssmith.core.errors import InputError
from ssmith.families import model_digest
from ssmith.jobs.train import Recipe, save_trained, train
from ssmith.jobs.train.card import compressors
from ssmith.jobs.train.run import language_data
from ssmith.tune.training import runs

pytest.importorskip("transformers")


class Stopped(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "squares.txt")


def test_it_learns_and_says_how_well_on_text_it_has_not_seen(text, tmp_path):
    done = trained(text)
    place = save_trained(done, tmp_path / "model")
    loaded = api.load(place)
    assert model_digest(loaded) == model_digest(done.model)
    assert all(check.passed for check in api.verify(place))
    windows = api.load_text(text, loaded).windows(32)
    found = api.evaluate(loaded, windows)
    curve = json.loads((place / "curve.json").read_text())
    assert curve["test"]["perplexity"]["value"] == pytest.approx(found.value)
    assert found.also["bits per byte"].value < 5 < 8
    assert [step for step, _ in curve["validation"]] == [15, 30]
    assert curve["data"]["train"]["tokens"] == len(api.load_text(text).split("train"))
    card = (place / "README.md").read_text()
    for part in (
        "# Squares",
        "Knows squares.",
        "bits per byte",
        "gzip -9",
        "retrain",
        "split test",
    ):
        assert part in card
    again = Recipe.load(place / "recipe.json")
    assert again == recipe(text)


@pytest.mark.parametrize("at", [7, 20])
def test_killed_and_resumed_gives_the_same_files(text, tmp_path, monkeypatch, at):
    monkeypatch.setattr(runs, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    whole = trained(text)

    def told(stage, done, total, note=""):
        if done == at:
            raise Stopped

    checkpoint = tmp_path / "last.safetensors"
    with pytest.raises(Stopped):
        trained(text, checkpoint=checkpoint, progress=told)
    resumed = trained(text, checkpoint=checkpoint)
    assert model_digest(resumed.model) == model_digest(whole.model)
    assert resumed.training == whole.training
    for name, done in (("one", whole), ("two", resumed)):
        save_trained(done, tmp_path / name)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    # Only these tell how long it took.
    for name in ("curve.json", "manifest.json", "README.md"):
        one.pop(name), two.pop(name)
    assert one == two


def test_loading_changes_no_weight_whatever_the_configuration_asks_for(text, tmp_path):
    place = save_trained(trained(text), tmp_path / "model")
    before = model_digest(api.load(place))
    config = json.loads((place / "config.json").read_text())
    assert config["rescale_prenorm_residual"] is False
    (place / "config.json").write_text(json.dumps({**config, "rescale_prenorm_residual": True}))
    assert model_digest(api.load(place)) == before


def test_packages_are_read_apart_from_the_held_out_text(tmp_path):
    packages = {"jinja2": metadata.version("jinja2")}
    held_out = tmp_path / "held.txt"
    held_out.write_text("nothing of this stands in any package\n" * 99)
    made = recipe("unused", data={"packages": packages, "bytes": 30_000, "held_out": str(held_out)})
    texts = language_data(made.texts())
    assert 10_000 < len(texts.train) <= 30_000
    assert texts.held_out.name == "held.txt"
    assert texts.facts["train"]["packages"]["jinja2"]["version"] == packages["jinja2"]


def test_compressors_say_what_they_cannot_measure(text, monkeypatch):
    found = compressors(api.load_text(text), "all")
    assert 0 < found["xz -9e"] < found["gzip -9"] < 8
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert "not installed" in compressors(api.load_text(text), "all")["zstd -19"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": {}}, "packages and bytes, or text"),
        ({"data": {"text": "a.txt", "packages": {}, "bytes": 1}}, "packages and bytes, or text"),
        ({"data": {"packages": ["numpy"], "bytes": 1}}, "packages is"),
        ({"model": {"width": 8}}, "model lacks layers"),
        ({"model": {"width": 8, "layers": 1, "heads": 2}}, "unknown setting 'heads'"),
        ({"fit": {**FIT, "epochs": 3}}, "unknown setting 'epochs'"),
        ({"fit": {**FIT, "steps": 0}}, "steps is 0"),
        ({"depth": 3}, "unknown setting 'depth'"),
        ({"notes": "text"}, "notes is 'text'"),
    ],
)
def test_what_a_recipe_may_not_say_is_refused(text, tmp_path, change, words):
    path = tmp_path / "recipe.json"
    content = json.loads(recipe(text).to_json())
    path.write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError, match=words):
        Recipe.load(path)


def test_weights_come_from_the_seed(text):
    first, second = (recipe(text).language_fit(seed) for seed in (0, 1))
    assert (first.seed, second.seed) == (0, 1)
    torch.manual_seed(3)
    digests = {model_digest(trained(text, seed=seed).model) for seed in (0, 1, 1)}
    assert len(digests) == 2


@pytest.mark.parametrize(("model", "said"), [
    ({"family": "mamba2", "width": 16, "layers": 1, "states": 8, "head_width": 8},
     "Mamba-2, width 16, 1 layers of 4 heads × 8, 8 states"),
    ({"family": "hybrid", "width": 16, "layers": 2, "attention": [1], "neurons": 24, "states": 8,
      "head_width": 8, "query_heads": 2, "kv_heads": 1},
     "Bamba, a hybrid: width 16, 2 layers, 1 of attention"),
])  # fmt: skip
def test_other_families_are_trained(text, tmp_path, model, said):
    asked = dataclasses.replace(recipe(text), model=model)
    done = train(asked)
    place = save_trained(done, tmp_path / "model")
    assert model_digest(api.load(place)) == model_digest(done.model)
    assert said in (place / "README.md").read_text()
    assert Recipe.load(place / "recipe.json") == asked


def test_an_unknown_family_is_refused(text):
    with pytest.raises(InputError, match="rwkv"):
        dataclasses.replace(recipe(text), model={"family": "rwkv", "width": 8, "layers": 1})
