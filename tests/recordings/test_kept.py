"""What a model knows of its data is kept through everything that is done to it."""

import pytest
import torch

from ssmith import api, spine
from ssmith.core.budget import Budget
from ssmith.core.errors import ArtefactError
from ssmith.core.preparation import FILE
from ssmith.core.settings import to_mapping
from ssmith.jobs.source import every_row
from ssmith.jobs.train import Recipe, save_trained, train
from ssmith.recordings import new_rows

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
