"""Tasks beyond classification, from a file to a model that is measured in its own units."""

from dataclasses import replace

import numpy as np
import pytest

from ssmith import api
from ssmith.core.preparation import PrepareConfig
from ssmith.core.settings import to_mapping
from ssmith.jobs.train import ChoiceConfig, chosen_recipe, measured, rows_for, save_trained, train
from ssmith.jobs.train.recipe import Recipe
from ssmith.recordings import new_rows

SMALL = ChoiceConfig(width=8, states=8, layers=1, lr=0.01, epochs=6)


def trained(path, epochs=6, **settings):
    config = to_mapping(PrepareConfig(**settings))
    rows = rows_for(Recipe(data=str(path), model={}, fit={}, prepare=config))
    recipe = chosen_recipe(str(path), rows.data, rows.preparation, replace(SMALL, epochs=epochs))
    return train(recipe, rows=rows)


@pytest.fixture
def season(tmp_path):
    rng = np.random.default_rng(0)
    steps = np.arange(700)
    load = 100 + 20 * np.sin(steps * 2 * np.pi / 12) + rng.normal(size=700)
    warm = rng.normal(size=700)
    lines = ["hour,load,warm"]
    lines += [f"{a},{b:.4f},{c:.4f}" for a, b, c in zip(steps, load, warm, strict=True)]
    path = tmp_path / "load.csv"
    path.write_text("\n".join(lines))
    return path


def test_a_forecast_of_several_steps_stands_beside_last_value_and_season(season, tmp_path):
    made = trained(
        season, task="forecasting", time="hour", label=("load",), horizon=(1, 6), window=24
    )
    save_trained(made, tmp_path / "model")
    model = api.load(tmp_path / "model")
    assert [item.name for item in model.preparation.targets] == ["load +1", "load +6"]
    data = api.load_data(season, model)
    found = {item.name: item for item in measured(model, data, "test")}
    assert 0.5 < found["MAE"].naive < 3 and found["MAE"].answer.endswith("12 steps before")
    assert found["MAE"].value < 6 and found["MASE"].value < 1
    assert found["CRPS"].value < found["CRPS"].naive
    # The last window of new data has nothing to compare with, and is forecast all the same.
    rows = new_rows(model.preparation, season)
    assert rows.rows.columns["stop"][-1] == "700" and not bool(rows.labelled[-1])
    place = rows.labelled.nonzero()[0].item()
    back = model.preparation.targets_back(rows.rows.y[place : place + 1].numpy())[0]
    values = [float(line.split(",")[1]) for line in season.read_text().splitlines()[1:]]
    stop = int(rows.rows.columns["stop"][place])
    np.testing.assert_allclose(back, [values[stop], values[stop + 5]], atol=1e-3)


def test_what_is_usual_is_forecast_for_anomalies(season):
    made = trained(season, task="anomaly", time="hour", window=12)
    assert made.model.config.outputs == 2
    assert [item.name for item in made.model.preparation.targets] == ["load +1", "warm +1"]


def test_labels_that_may_be_together(tmp_path):
    rng = np.random.default_rng(0)
    lines = ["sequence,a,high,loud"]
    for number in range(60):
        high, loud = number % 2, number // 2 % 2
        for step in range(20):
            value = (1 + 3 * loud) * np.sin(step * (0.3 + 1.5 * high)) + 0.1 * rng.normal()
            lines.append(f"{number},{value:.4f},{high},{loud}")
    path = tmp_path / "sounds.csv"
    path.write_text("\n".join(lines))
    made = trained(path, 40, task="multi-label", label=("high", "loud"))
    assert made.data.classes == ("high", "loud")
    found = {item.name: item for item in measured(made.model, made.data, "test")}
    assert found["AUROC, mean over labels"].value > 0.6
    assert api.evaluate(made.model, made.data.split("test")).metric.name == "label accuracy"


def test_a_label_for_every_step(tmp_path):
    rng = np.random.default_rng(0)
    state = np.repeat(rng.integers(0, 2, 30), 20)
    lines = ["a,state"] + [f"{s + 0.2 * rng.normal():.4f},s{s}" for s in state]
    path = tmp_path / "steps.csv"
    path.write_text("\n".join(lines))
    made = trained(path, task="per-step", label=("state",), window=8)
    rows = new_rows(made.model.preparation, path)
    assert rows.rows.columns["stop"] == tuple(str(step + 1) for step in range(600))
    assert rows.rows.lengths[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
