import json

import pytest
import torch

from helpers.unchecked import unchecked
from jobs.toy import FIT, MODEL, contents, recipe, toy
from ssmith import api
from ssmith.core.errors import ArtefactError, DataError, InputError, UnsupportedError
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.data import save_npz
from ssmith.families import SequenceConfig, SequenceModel, model_digest
from ssmith.jobs.train import Recipe, save_trained, train
from ssmith.tune import FitConfig

SHORT = {**FIT, "epochs": 3}


@pytest.fixture
def short(shelf):
    return recipe(shelf / "data.npz", fit=SHORT)


def test_the_toy_is_learned(shelf):
    found = api.evaluate(api.load(shelf / "model"), toy().split("test"))
    assert found.low > 0.75


def test_same_recipe_and_seed_give_the_same_bytes(short, tmp_path):
    for name in ("one", "two"):
        save_trained(train(short, seed=3), tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_seed_gives_another_model(short):
    first, second = (train(short, seed=seed).model for seed in (0, 1))
    assert model_digest(first) != model_digest(second)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("epoch", [1, 2])
def test_killed_within_an_epoch_and_resumed_gives_the_same_weights(
    short, tmp_path, monkeypatch, epoch
):
    whole = train(short, seed=0)
    checkpoint = tmp_path / "last.safetensors"
    steps_per_epoch, calls = 6, iter(range(1, 1000))
    real = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        # In the middle of an epoch: some of its steps are done and will be lost.
        if next(calls) == epoch * steps_per_epoch + 3:
            raise Killed
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(torch.optim.AdamW, "step", step)
        train(short, seed=0, checkpoint=checkpoint)
    assert checkpoint.is_file()
    resumed = train(short, seed=0, checkpoint=checkpoint)
    assert model_digest(resumed.model) == model_digest(whole.model)
    assert resumed.training == whole.training


def test_a_finished_checkpoint_trains_no_further(short, tmp_path):
    checkpoint, told = tmp_path / "last.safetensors", []
    first = train(short, seed=0, checkpoint=checkpoint)
    second = train(
        short, seed=0, checkpoint=checkpoint, progress=lambda *said, **_: told.append(said)
    )
    assert model_digest(first.model) == model_digest(second.model)
    assert not told


def test_a_checkpoint_of_another_run_is_refused(short, tmp_path):
    checkpoint = tmp_path / "last.safetensors"
    train(short, seed=0, checkpoint=checkpoint)
    with pytest.raises(ArtefactError, match="other settings or data"):
        train(short, seed=1, checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    for change in (
        {"width": 6},
        {"dropout": 0.2},
        {"options": {**MODEL["options"], "discretisation": "bilinear"}},
    ):
        other = recipe(short.data, fit=SHORT, model={**MODEL, **change})
        with pytest.raises(ArtefactError):
            train(other, seed=0, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == before


def test_no_more_rows_run_at_once_than_a_step_of_the_training_holds(short, tmp_path, monkeypatch):
    seen, real = [], SequenceModel.forward

    def forward(self, x, *more, **named):
        seen.append(len(x))
        return real(self, x, *more, **named)

    monkeypatch.setattr(SequenceModel, "forward", forward)
    small = recipe(short.data, fit={**SHORT, "epochs": 1, "batch_size": 7})
    save_trained(train(small), tmp_path / "made")
    assert max(seen) == 7


def test_several_processes_are_refused_and_not_run_side_by_side(short, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UnsupportedError, match=r"in 2 processes.*without torchrun"):
        train(short)


def test_progress_is_told_after_each_step(short):
    told = []
    train(short, progress=lambda *said: told.append(said))
    # Three epochs of 96 sequences in batches of 16.
    assert [said[:3] for said in told] == [("train", step, 18) for step in range(1, 19)]
    assert all("loss" in said[3] for said in told)
    assert all(("validation" in said[3]) == (said[1] >= 6) for said in told)


def test_selection_and_test_do_not_matter_to_training(short, tmp_path):
    noise = Sequences(x=torch.randn(8, 24, 1), lengths=torch.full((8,), 24), y=torch.arange(8) % 2)
    save_npz(toy(selection=noise, test=noise), tmp_path / "other.npz")
    other = recipe(tmp_path / "other.npz", fit=SHORT)
    assert model_digest(train(short).model) == model_digest(train(other).model)


def test_a_saved_model_says_how_it_was_made_and_how_good_it_is(shelf):
    place = shelf / "model"
    model, data = api.load(place), toy()
    assert Recipe.load(place / "recipe.json") == recipe(shelf / "data.npz")
    history = json.loads((place / "history.json").read_text())
    assert len(history["looks"]) == FIT["epochs"]
    best = max(look["score"] for look in history["looks"])
    kept = next(look for look in history["looks"] if look["score"] == best)
    assert history["best_step"] == kept["step"]
    assert len(history["losses"]) == history["looks"][-1]["step"]
    card = (place / "README.md").read_text()
    for split in ("validation", "selection", "test"):
        found = api.evaluate(model, data.split(split))
        row = next(row for row in card.splitlines() if f"accuracy, {split}" in row)
        assert f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]" in row
        assert f"{found.count} sequences" in row
    # The weights that were kept are those of the best epoch.
    assert api.evaluate(model, data.split("validation")).value == best[0]
    assert "ssmith train recipe.json --seed 0" in card
    assert all(check.passed for check in api.verify(place))


def test_data_without_a_test_split_trains_and_the_card_says_so(tmp_path):
    data = toy()
    del data.splits["selection"], data.splits["test"]
    save_npz(data, tmp_path / "two.npz")
    how = recipe(tmp_path / "two.npz", fit={**FIT, "epochs": 1})
    save_trained(train(how), tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| accuracy, test | not measured: the data has no such split |" in card


def test_data_without_a_validation_split_is_refused(tmp_path):
    data = toy()
    del data.splits["validation"]
    save_npz(data, tmp_path / "none.npz")
    with pytest.raises(DataError, match="validation"):
        train(recipe(tmp_path / "none.npz"))


def test_regression_and_tokens_are_trained_too(tmp_path):
    draw = torch.Generator().manual_seed(0)

    def tokens(count):
        x = torch.randint(0, 5, (count, 9), generator=draw)
        return Sequences(
            x=x, lengths=torch.full((count,), 9), y=torch.stack([x.sum(1), x[:, 0]], 1).float()
        )

    splits = {"train": tokens(32), "validation": tokens(16)}
    data = SequenceData(name="sums", task="regression", splits=splits, vocabulary=5)
    save_npz(data, tmp_path / "sums.npz")
    trained = train(
        recipe(
            tmp_path / "sums.npz",
            model={"family": "s4d", "width": 4, "states": [2]},
            fit={"epochs": 4, "lr": 0.05},
        )
    )
    model = trained.model
    assert (model.config.vocabulary, model.config.outputs, model.config.channels) == (5, 2, None)
    # Validation is a loss here: the kept epoch has the largest negative.
    errors = [-look.score[0] for look in trained.training.looks]
    found = api.evaluate(model, data.split("validation"), "mae")
    assert found.value == pytest.approx(min(errors))
    assert min(errors) < errors[0]


@pytest.mark.parametrize("key", ["channels", "vocabulary", "outputs", "task", "classes"])
def test_what_the_data_decides_is_not_for_the_recipe(shelf, key):
    wrong = recipe(shelf / "data.npz", model={**MODEL, key: 2})
    with pytest.raises(InputError, match=key):
        train(wrong)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {**MODEL, "wdith": 8}}, "wdith"),
        ({"model": {**MODEL, "width": 0}}, "width"),
        ({"model": {**MODEL, "width": "8"}}, "width"),
        ({"model": {**MODEL, "family": "s6"}}, "family"),
        ({"model": {**MODEL, "states": 8}}, "states"),
        ({"model": {**MODEL, "states": []}}, "states"),
        ({"model": {**MODEL, "states": [8, -1]}}, "states"),
        ({"model": {**MODEL, "states": [8, [4, 4]]}}, "states"),
        ({"model": {**MODEL, "dropout": 1.0}}, "dropout"),
        ({"model": {**MODEL, "options": {"dt": 1}}}, "dt"),
        ({"model": {**MODEL, "options": {"dt_min": -1}}}, "dt_min"),
        ({"model": {**MODEL, "options": []}}, "options"),
        ({"model": {"family": "s5", "states": [4]}}, "width"),
        ({"model": {"width": 8, "states": [4]}}, "family"),
        ({"fit": {**FIT, "epoch": 3}}, "epoch"),
        ({"fit": {**FIT, "seed": 3}}, "seed"),
        ({"fit": {**FIT, "epochs": 0}}, "epochs"),
        ({"fit": {**FIT, "epochs": 1.5}}, "epochs"),
        ({"fit": {**FIT, "lr": "fast"}}, "lr"),
        ({"fit": {**FIT, "lr": 0}}, "lr"),
        ({"fit": {**FIT, "weight_decay": -1}}, "weight_decay"),
        ({"fit": {**FIT, "warmup": 1}}, "warmup"),
        ({"data": "missing.npz"}, "missing.npz"),
        ({"data": "embedded:nothing"}, "nothing"),
    ],
)
def test_a_wrong_recipe_is_refused(shelf, monkeypatch, changes, says):
    # A recipe comes from a file, where no type checker stands before the house's own checks.
    for config in (SequenceConfig, FitConfig):
        monkeypatch.setattr(config, "__init__", unchecked(config.__init__))
    content = {"data": str(shelf / "data.npz"), "model": MODEL, "fit": FIT, **changes}
    with pytest.raises(InputError, match=says):
        train(Recipe(**content))


@pytest.mark.parametrize(
    "change",
    [
        {"dat": "x"},
        {"data": 5},
        {"data": {"text": "a.txt"}},
        {"model": []},
        {"fit": None},
        {"kind": "languages"},
        {"title": ["x"]},
        {"notes": "one sentence"},
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, change):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps({"data": "d.npz", "model": MODEL, "fit": FIT, **change}))
    with pytest.raises(InputError, match=r"recipe\.json"):
        Recipe.load(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "is no mapping of settings: it holds a list"),
        ('{"data": "d.npz"}', "lacks model, fit; .*next: add model and fit"),
    ],
)
def test_a_recipe_needs_its_keys(tmp_path, text, says):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        Recipe.load(path)


@pytest.mark.parametrize(
    ("changes", "meant"),
    [
        ({"dat": "x"}, "'data'"),
        ({"model": {**MODEL, "wdith": 8}}, "'width'"),
        ({"model": {**MODEL, "options": {"dt_mn": 1}}}, "'dt_min'"),
        ({"fit": {**FIT, "epoch": 3}}, "'epochs'"),
    ],
)
def test_a_key_that_is_misspelt_is_suggested(shelf, tmp_path, changes, meant):
    path = tmp_path / "recipe.json"
    content = {"data": str(shelf / "data.npz"), "model": MODEL, "fit": FIT, **changes}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"next: did you mean {meant}\?$"):
        train(Recipe.load(path))


def test_a_recipe_survives_its_file(tmp_path):
    before = recipe("data.npz")
    (tmp_path / "recipe.json").write_text(before.to_json())
    assert Recipe.load(tmp_path / "recipe.json") == before
