"""What a model knows of its data is kept through everything that is done to it."""

import pytest
import torch

from ssmith import api, spine
from ssmith.core.budget import Budget
from ssmith.core.errors import ArtefactError
from ssmith.core.preparation import FILE
from ssmith.core.settings import to_mapping
from ssmith.evaluation import predict
from ssmith.jobs.source import every_row
from ssmith.jobs.train import Recipe, save_trained, train
from ssmith.jobs.tuning import TuneConfig, fine_tune
from ssmith.recordings import new_rows
from ssmith.tune.adapters import StateOffset
from ssmith.tune.training import TrainingConfig

TWO_STEPS = TrainingConfig(steps=2, batch_size=8, evaluate_every=2)
MODEL = {"family": "s5", "width": 8, "states": [4]}


@pytest.fixture
def model(table, config, tmp_path):
    settings = {name: value for name, value in to_mapping(config).items() if value}
    recipe = Recipe(data=str(table), model=MODEL, fit={"epochs": 2}, prepare=settings)
    return save_trained(train(recipe), tmp_path / "model")


def test_prune_and_save_keep_it(model, table, tmp_path):
    loaded = api.load(model)
    assert loaded.preparation is not None
    plan = spine.plan(loaded, Budget("state", 0.5, method="random"))
    api.prune_(loaded, plan)
    api.save(loaded, tmp_path / "pruned")
    assert api.load(tmp_path / "pruned").preparation == api.load(model).preparation


def test_the_rows_of_a_model_are_those_it_was_trained_on(model, table):
    loaded = api.load(model)
    data = api.load_data(table, loaded)
    assert data.classes == loaded.preparation.classes
    assert data.split("test").x.shape[1:] == (12, 2)


def test_every_row_of_new_data_is_made_as_those_of_the_training(model, table):
    loaded = api.load(model)
    found = every_row(loaded, str(model), str(table), labelled=True).split("all")
    assert torch.equal(found.x, new_rows(loaded.preparation, table).rows.x)


def test_a_preparation_of_another_model_is_refused(model):
    path = model / FILE
    path.write_text(path.read_text().replace('"fine"', '"fine", "odd"'))
    with pytest.raises(ArtefactError, match=r"3 outputs.*restore"):
        api.load(model)


def test_tuning_reads_recordings_as_the_model_does(model, table, tmp_path):
    other = tmp_path / "other.csv"
    # Another order of columns is found by name: the rows are the same ones.
    rows = [line.split(",") for line in table.read_text().splitlines()]
    other.write_text("\n".join(",".join(reversed(row)) for row in rows))
    data = api.load_data(table, api.load(model))
    for path in (table, other):
        config = TuneConfig(methods=(StateOffset(form="y"),), data=str(path), training=TWO_STEPS)
        found = fine_tune(model, config, out=tmp_path / path.stem).data
        assert found.sha256 == data.sha256
    tuned = api.load(tmp_path / "other")
    assert tuned.preparation == api.load(model).preparation
    assert not torch.equal(predict(tuned, data.split("test")),
                           predict(api.load(model), data.split("test")))  # fmt: skip


def test_tuning_on_other_labels_makes_them_the_classes(model, table, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace("failing", "broken"))
    config = TuneConfig(methods=(StateOffset(form="y"),), data=str(other), training=TWO_STEPS)
    fine_tune(model, config, out=tmp_path / "tuned")
    assert api.load(tmp_path / "tuned").preparation.classes == ("broken", "fine")
