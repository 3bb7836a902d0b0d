"""Answers to new data: names of rows, thresholds, intervals, scores, and the files they go to."""

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
import torch

from helpers.adapting import disturb_
from helpers.toy import tiny_data, tiny_model
from recordings import plant
from ssmith import adapters, api, evaluation, spine
from ssmith.cli.main import main
from ssmith.core.budget import Budget
from ssmith.core.errors import ArtefactError, DataError, InputError, ModelError
from ssmith.core.preparation import PrepareConfig
from ssmith.core.sequences import Sequences
from ssmith.data import save_npz
from ssmith.evaluation.wishes import DecisionConfig
from ssmith.families import Answers, SequenceConfig, SequenceModel, model_digest
from ssmith.recordings import prepare
from ssmith.serving import PredictConfig, predict
from ssmith.serving.columns import columns_of, score
from ssmith.serving.decision import Decision, fitted_decision, kept_decision
from ssmith.serving.rows import AskedRows
from ssmith.serving.writing import table_of, table_writer, write_tables


def same(first, second):
    assert torch.equal(first.outputs, second.outputs)
    assert [*first.columns] == [*second.columns]


def test_saved_pruned_by_nothing_tuned_and_merged_models_answer_as_before(tmp_path):
    model, data = tiny_model(), tmp_path / "data.npz"
    save_npz(tiny_data(), data)
    before = predict(model, data)
    assert before.columns["row"] == list(map(str, range(48)))
    assert before.score["rows"] == 48
    api.save(model, tmp_path / "saved")
    saved = api.load(tmp_path / "saved")
    same(predict(saved, data), before)
    api.prune_(saved, spine.plan(saved, Budget("state", 0, method="random")))
    same(predict(saved, data), before)
    adapters.attach_(saved, adapters.LoRA(rank=2), prove=False)
    disturb_(saved)
    tuned = predict(saved, data)
    assert not torch.equal(tuned.outputs, before.outputs)
    api.save_adapter(saved, tmp_path / "tuned", base=str(tmp_path / "saved"))
    same(predict(api.load(tmp_path / "tuned"), data), tuned)
    api.merge_adapter_(saved)
    assert (predict(saved, data).outputs - tuned.outputs).abs().max() < 1e-5


def trained(table, config, **settings):
    found = prepare(table, config)
    part = found.data.split("train")
    targets = len(found.preparation.targets or found.preparation.classes)
    torch.manual_seed(0)
    model = SequenceModel(
        SequenceConfig(
            family="s5", width=6, states=(4,), channels=part.x.shape[2], outputs=targets,
            classes=found.data.classes, task=found.data.task, **settings,
        ),
        torch.Generator().manual_seed(0), found.preparation,
    )  # fmt: skip
    return model.eval()


@pytest.fixture
def table(tmp_path):
    return plant.write(tmp_path / "plant.csv", plant.rows())


CONFIG = PrepareConfig(
    task="classification", sequence="machine", time="ts", label=("state",), group="plant",
    window=12, stride=6,
)  # fmt: skip


def test_channels_are_matched_by_name_without_labels_in_any_order(table, tmp_path):
    model = trained(table, CONFIG)
    before = predict(model, table)
    assert before.columns["name"][0] == "m0" and before.columns["start"][:2] == ["0", "6"]
    assert set(before.columns["target"]) == {"fine", "failing"}
    less = [(row[1], row[3], row[0], 7, row[2]) for row in plant.rows()]
    names = ("ts", "volt", "machine", "odd", "temp")
    other = plant.write(tmp_path / "other.csv", less, names=names)
    after = predict(model, other)
    assert torch.equal(after.outputs, before.outputs)
    assert "target" not in after.columns and after.score == {}
    assert [item.kind for item in after.findings] == ["unread-columns"]
    lacks = plant.write(
        tmp_path / "lacks.csv", less, names=("ts", "volts", "machine", "odd", "temp")
    )
    with pytest.raises(DataError, match="lacks volt"):
        predict(model, lacks)


def test_values_out_of_range_are_told(table, tmp_path):
    model = trained(table, CONFIG)
    rows = [(*row[:3], 4 * row[3], *row[4:]) if row[1] == 5 else row for row in plant.rows()]
    found = predict(model, plant.write(tmp_path / "wild.csv", rows))
    (said,) = [item for item in found.findings if item.kind == "out-of-range"]
    assert "'volt'" in said.message and "12 steps" in said.message


def test_numbers_come_back_in_their_units_with_intervals_that_are_counted(table):
    config = PrepareConfig(
        task="forecasting", sequence="machine", time="ts", label=("volt",), horizon=(1, 3),
        ignore=("state", "plant"), window=8, stride=8,
    )  # fmt: skip
    model = trained(table, config, pooling="last")
    plain = predict(model, table)
    assert "volt +1" in plain.columns and "volt +1 low" not in plain.columns
    wish = PredictConfig(calibrate=str(table), decide=DecisionConfig(level=0.8))
    found = predict(model, table, wish)
    values = found.columns["volt +1"]
    assert 390 < np.median(values) < 410
    wide = found.columns["volt +1 high"] - found.columns["volt +1 low"]
    misses = np.abs(values - found.columns["target volt +1"])
    known = found.rows.labelled.numpy()
    inside = float((misses <= wide / 2)[known].mean())
    said = found.score["targets"]["volt +1"]
    assert said["coverage"]["value"] == pytest.approx(inside)
    assert said["mean_absolute_error"] == pytest.approx(float(misses[known].mean()))
    assert said["promised"] == 0.8
    # The last steps of each machine have nothing after them to be held against.
    assert np.isnan(found.columns["target volt +3"][~known]).all() and not known.all()


def test_what_was_fitted_before_a_change_is_told(table):
    config = PrepareConfig(
        task="regression", sequence="machine", time="ts", label=("volt",),
        ignore=("state", "plant"), window=8, stride=8,
    )  # fmt: skip
    model = trained(table, config)
    facts = {"fitted_on": model_digest(model)}
    model.preparation = replace(model.preparation, residuals={"0.9": (5.0,)}, facts=facts)
    found = predict(model, table)
    assert (found.columns["volt high"] - found.columns["volt low"] == 10).all()
    assert found.findings == ()
    with pytest.raises(InputError, match=r"0\.7.*0\.9"):
        predict(model, table, PredictConfig(decide=DecisionConfig(level=0.7)))
    with torch.no_grad():
        model.head.bias.add_(1.0)
    assert [item.kind for item in predict(model, table).findings] == ["fitted-before"]


def test_an_anomaly_is_what_lies_farther_from_its_forecast_than_usual_rows(table):
    config = PrepareConfig(
        task="anomaly", sequence="machine", time="ts", ignore=("state", "plant"), window=8,
        stride=8,
    )  # fmt: skip
    model = trained(table, config, pooling="last")
    found = predict(model, table, PredictConfig(calibrate=str(table)))
    spread = np.array([item.std for item in model.preparation.targets])
    values = np.stack([found.columns[name] for name in found.decision.targets], axis=1)
    truth = np.stack([found.columns[f"target {name}"] for name in found.decision.targets], axis=1)
    wanted = np.sqrt((((values - truth) / spread) ** 2).mean(1))
    assert np.allclose(found.columns["anomaly score"], wanted, equal_nan=True)
    known = found.rows.labelled.numpy()
    said = np.array(found.columns["anomaly"], dtype=object)
    limit = found.decision.thresholds["anomaly score"]
    assert said[known].tolist() == (wanted[known] >= limit).tolist()
    assert set(said[~known]) == {None}
    # Of the rows it was fitted on, one in five may pass it at most.
    often = PredictConfig(calibrate=str(table), decide=DecisionConfig(false_alarms=0.2))
    part = api.load_data(table, model).split("validation")
    rows = AskedRows(rows=part, labelled=torch.ones(len(part)).bool(), names={})
    looser = fitted_decision(model, often.decide, rows, evaluation.predict(model, part))
    marked = columns_of(looser, evaluation.predict(model, part), rows)["anomaly"]
    assert 0.2 - 2 / len(part) <= np.mean(marked) <= 0.2


def asked(y):
    rows = Sequences(x=torch.zeros(len(y), 1, 1), lengths=torch.ones(len(y)).long(), y=y)
    return AskedRows(rows=rows, labelled=torch.ones(len(y)).bool(), names={})


def classes(**thresholds):
    answers = Answers(
        task="classification", outputs=3, classes=("a", "b", "c"), channels=1, vocabulary=None
    )
    return Decision(answers=answers, thresholds=thresholds)


def test_a_threshold_gives_its_class_and_the_rest_is_likeliest():
    shares = np.array([[0.5, 0.3, 0.2], [0.7, 0.1, 0.2], [0.1, 0.19, 0.71]])
    assert classes().chosen(shares).tolist() == [0, 0, 2]
    assert classes(b=0.25).chosen(shares).tolist() == [1, 0, 2]
    # Without reaching it, a class is not given, however likely.
    assert classes(a=0.9).chosen(shares).tolist() == [1, 2, 2]
    assert classes(a=0.4, b=0.25).chosen(shares).tolist() == [0, 0, 2]
    assert classes(a=0.9, b=0.9, c=0.9).chosen(shares).tolist() == [0, 0, 2]


def test_scores_by_hand():
    outputs = torch.log(torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]]))
    found = score(classes(), outputs, asked(torch.tensor([0, 1, 1])))
    assert found["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["classes"]["b"]["recall"]["value"] == 0.5
    assert found["classes"]["a"]["false_alarms"]["value"] == 0.5
    assert found["classes"]["c"]["recall"] is None
    assert found["balanced_accuracy"] == pytest.approx(0.75)
    columns = columns_of(classes(), outputs, asked(torch.tensor([0, 1, 1])))
    assert columns["label"] == ["a", "b", "a"] and columns["target"] == ["a", "b", "b"]
    assert np.allclose(columns["probability"], [0.6, 0.7, 0.5])


def test_a_wanted_recall_is_kept_on_the_rows_it_was_fitted_on():
    model = tiny_model()
    draw = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(300, 3, generator=draw), torch.arange(300) % 3
    wish = DecisionConfig(positive="b", recall=0.9)
    found = fitted_decision(model, wish, asked(y), outputs)
    given = found.chosen(found.shares(outputs)) == 1
    assert given[y == 1].mean() >= 0.9
    assert kept_decision(model, wish).thresholds == {}
    with pytest.raises(InputError, match="'d'"):
        fitted_decision(model, replace(wish, positive="d"), asked(y), outputs)


def test_wishes_that_say_nothing_are_refused(tmp_path):
    for wrong in (
        {"level": 1.0}, {"recall": 0.9}, {"positive": "a"},
        {"positive": "a", "recall": 0.9, "false_alarms": 0.1},
    ):  # fmt: skip
        with pytest.raises(InputError):
            DecisionConfig(**wrong)
    data = tmp_path / "data.npz"
    save_npz(tiny_data(), data)
    wish = PredictConfig(decide=DecisionConfig(positive="a", recall=0.5))
    with pytest.raises(DataError, match="without rows"):
        predict(tiny_model(), data, wish)
    alone = PredictConfig(calibrate=str(data), decide=DecisionConfig(false_alarms=0.1))
    with pytest.raises(InputError, match="without a class"):
        predict(tiny_model(), data, alone)
    with pytest.raises(ModelError, match="Linear"):
        predict(torch.nn.Linear(1, 1), data)


COLUMNS = {"row": ["0", "1"], "label": ["a", None], "value": np.array([0.25, np.nan])}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_kind_of_file_holds_the_same(kind, tmp_path):
    path = tmp_path / f"out.{kind}"
    tables = [table_of(COLUMNS), table_of({name: values[:1] for name, values in COLUMNS.items()})]
    write_tables(path, [table.schema for table in tables], tables)
    wanted = [("0", "a", 0.25), ("1", None, None), ("0", "a", 0.25)]
    if kind == "csv":
        with path.open(newline="") as stream:
            found = list(csv.reader(stream))
        assert found == [
            ["row", "label", "value"],
            *[["" if v is None else str(v) for v in row] for row in wanted],
        ]
    elif kind == "jsonl":
        found = [tuple(json.loads(line).values()) for line in path.read_text().splitlines()]
        assert found == wanted
    else:
        rows = pyarrow.parquet.read_table(path).to_pylist()
        assert [tuple(row.values()) for row in rows] == wanted


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("before")
    table = table_of(COLUMNS)
    with pytest.raises(KeyError), table_writer(path, table.schema) as put:
        put(table)
        raise KeyError
    assert path.read_text() == "before" and len(list(tmp_path.iterdir())) == 1
    with (
        pytest.raises(InputError, match="parquet"),
        table_writer(tmp_path / "out.xlsx", table.schema),
    ):
        pass
    with pytest.raises(ArtefactError), table_writer(path / "below.csv", table.schema):
        pass


def test_where_few_rows_were_validated_the_most_that_they_promise_is_given(table):
    config = PrepareConfig(
        task="regression", sequence="machine", time="ts", label=("volt",), group="plant",
        ignore=("state",), window=12,
    )  # fmt: skip
    model = trained(table, config)
    few = {"0.8": (3.0,)}
    model.preparation = replace(model.preparation, residuals=few)
    assert kept_decision(model, DecisionConfig()).level == 0.8
    model.preparation = replace(model.preparation, residuals={**few, "0.9": (4.0,), "0.95": (5.0,)})
    found = kept_decision(model, DecisionConfig())
    assert (found.level, found.widths) == (0.9, (4.0,))
    with pytest.raises(InputError, match=r"level is 0\.99"):
        kept_decision(model, DecisionConfig(level=0.99))


def test_what_leaves_a_line_answers_as_before(table, tmp_path):
    config = PrepareConfig(
        task="classification", sequence="machine", time="ts", label=("state",), group="plant",
        window=12,
    )  # fmt: skip
    api.save(trained(table, config), tmp_path / "model")
    before = predict(api.load(tmp_path / "model"), table)
    for words in (
        ["init", tmp_path / "line", "--name", "plant"],
        ["add", tmp_path / "line", tmp_path / "model", "--reason", "first"],
        ["export", tmp_path / "line", "newest", "--out", tmp_path / "out"],
    ):
        assert main(["release", *map(str, words)]) == 0
    found = predict(api.load(tmp_path / "out" / "model"), table)
    same(found, before)
    assert found.decision == before.decision and found.columns["label"] == before.columns["label"]
