import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recordings import plant
from ssmith.core.errors import DataError, InputError
from ssmith.core.preparation import Preparation, PrepareConfig
from ssmith.recordings import new_rows, prepare, prepared_as
from ssmith.recordings.plausible import plausibility
from ssmith.recordings.read import read
from ssmith.recordings.table_files import read_columns


def test_rows_are_windows_scaled_by_the_training_rows(table, config):
    made = prepare(table, config)
    train = made.data.split("train").x.reshape(-1, 2)
    assert made.data.classes == ("failing", "fine")
    assert train.mean(0).abs().max() < 1e-6 and (train.std(0, correction=0) - 1).abs().max() < 1e-6
    names = {row[0]: row for row in plant.rows()}
    part = made.data.split("test")
    back = part.x.numpy() * [item.std for item in made.preparation.channels]
    back += [item.mean for item in made.preparation.channels]
    there = [row for row in plant.rows() if row[0] == part.columns["name"][3]]
    start, stop = (int(part.columns[name][3]) for name in ("start", "stop"))
    assert names and stop - start == 12
    np.testing.assert_allclose(back[3], [row[2:4] for row in there[start:stop]], rtol=1e-5)
    assert made.data.classes[int(part.y[3])] == there[stop - 1][4]


def test_no_group_is_in_two_splits_and_all_classes_are_trained(table, config):
    made = prepare(table, config).data
    groups = [set(part.columns["group"]) for part in made.splits.values()]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 6
    assert len(made.split("train").y.unique()) == 2


def test_columns_in_another_order_and_new_ones_give_the_same_rows(table, config, tmp_path):
    preparation = prepare(table, config).preparation
    items = [(*row[:2], row[3], 7.5, row[2], *row[4:]) for row in plant.rows()]
    names = ("machine", "ts", "volt", "pressure", "temp", "state", "plant")
    other = plant.write(tmp_path / "other.csv", items, names)
    here, there = (new_rows(preparation, path) for path in (table, other))
    assert torch.equal(here.rows.x, there.rows.x)
    assert [item.kind for item in there.findings] == ["unread-columns"]
    assert "pressure" in there.findings[0].message and not here.findings


def test_a_missing_channel_is_refused_by_name(table, config, tmp_path):
    preparation = prepare(table, config).preparation
    items = [(*row[:3], *row[4:]) for row in plant.rows()]
    other = plant.write(tmp_path / "other.csv", items, ("machine", "ts", "temp", "state", "plant"))
    with pytest.raises(DataError, match=r"lacks volt that the model reads; it has temp"):
        new_rows(preparation, other)


def test_values_far_from_training_are_told_with_row_and_column(table, config, tmp_path):
    preparation = prepare(table, config).preparation
    items = plant.rows()
    items[100] = (*items[100][:2], -9999, *items[100][3:])
    found = new_rows(preparation, plant.write(tmp_path / "new.csv", items)).findings
    assert [item.kind for item in found] == ["out-of-range"]
    assert "'temp'" in found[0].message and "row 102" in found[0].message


def test_data_without_labels_is_normal(table, config, tmp_path):
    preparation = prepare(table, config).preparation
    bare = plant.write(tmp_path / "new.csv", [row[:4] for row in plant.rows()], plant.NAMES[:4])
    found = new_rows(preparation, bare)
    assert not found.labelled.any()
    assert torch.equal(found.rows.x, new_rows(preparation, table).rows.x)
    with pytest.raises(DataError, match=r"no label.*a column state"):
        prepared_as(preparation, bare)


def test_the_same_source_has_the_same_splits_and_scales(table, config):
    made = prepare(table, config)
    again = prepared_as(made.preparation, table)
    assert again.sha256 == made.data.sha256


def test_the_last_steps_of_new_data_are_in_a_row(table, config, tmp_path):
    preparation = prepare(table, config).preparation
    bare = plant.write(
        tmp_path / "new.csv", [row[:4] for row in plant.rows(1, 23)], plant.NAMES[:4]
    )
    found = new_rows(preparation, bare).rows
    assert found.columns["start"] == ("0", "6", "11") and found.columns["stop"][-1] == "23"
    short = plant.write(
        tmp_path / "new.csv", [row[:4] for row in plant.rows(1, 5)], plant.NAMES[:4]
    )
    assert new_rows(preparation, short).rows.lengths.tolist() == [5]


def test_it_comes_back_from_json(table, config):
    preparation = prepare(table, config).preparation
    assert Preparation.from_dict(preparation.as_dict(), "here") == preparation
    with pytest.raises(InputError):
        Preparation.from_dict({**preparation.as_dict(), "more": 1}, "here")
    with pytest.raises(InputError, match="here has no channel"):
        Preparation.from_dict({**preparation.as_dict(), "channels": []}, "here")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_separators_and_encodings_do_not_matter(table, config, tmp_path, separator, encoding):
    items = [(*row[:5], f"Zürich{row[5]}") for row in plant.rows()]
    path = plant.write(tmp_path / "p.csv", items, separator=separator, encoding=encoding)
    made = prepare(path, config)
    want = prepare(plant.write(tmp_path / "q.csv", items), config)
    assert made.data.sha256 == want.data.sha256
    assert made.data.split("test").columns["group"][0].startswith("Zürich")


def test_decimal_commas_units_and_times_of_the_clock(table, config, tmp_path):
    items = [(row[0], f"2026-01-01 00:{row[1] // 60:02}:{row[1] % 60:02}", *row[2:])
             for row in plant.rows()]  # fmt: skip
    items.insert(0, ("", "", "°C", "[V]", "", ""))
    path = plant.write(
        tmp_path / "p.csv", items, separator=";", form=lambda cell: cell.replace(".", ",")
    )
    made = prepare(path, config)
    assert [item.unit for item in made.preparation.channels] == ["°C", "V"]
    assert made.data.sha256 == prepare(table, config).data.sha256
    start = float(made.data.split("train").columns["time"][0])
    assert start == 1767225600 + 11


TIMES = (
    "2026-01-01T00:00:05+00:00", "2026-01-01T01:00:05+01:00", "01.01.2026 00:00:05",
    "1767225605", "1767225605000",
)  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "seconds"),
    [
        ((20240228, 20240229, 20240301), (1709078400, 1709164800, 1709251200)),
        ((19580329, 19580405), (-371174400, -370569600)),
        # No dates: there is no 30th of February, no 13th month, no half a day.
        ((20240229, 20240230), (20240229, 20240230)),
        ((20241301, 20240101), (20241301, 20240101)),
        ((20240101.5, 20240102), (20240101.5, 20240102)),
    ],
)
def test_numbers_of_year_month_and_day_are_dates(tmp_path, numbers, seconds):
    path = tmp_path / "dates.csv"
    path.write_text("date,x\n" + "".join(f"{number},1\n" for number in numbers))
    assert read_columns(path).times("date").tolist() == list(map(float, seconds))


@pytest.mark.parametrize("text", TIMES)
def test_times_are_seconds_since_1970(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(f"time,a\n{text},1\n")
    assert read_columns(path).times("time").tolist() == [1767225605.0]


def test_parquet_and_lines_of_json_hold_the_same(table, config, tmp_path):
    columns = {name: [row[place] for row in plant.rows()] for place, name in enumerate(plant.NAMES)}
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    (tmp_path / "p.jsonl").write_text(
        "\n".join(str(dict(zip(plant.NAMES, row, strict=True))).replace("'", '"')
                  .replace("np.float64(", "").replace(")", "") for row in plant.rows())
    )  # fmt: skip
    want = prepare(table, config).data.sha256
    assert prepare(tmp_path / "p.parquet", config).data.sha256 == want
    assert prepare(tmp_path / "p.jsonl", config).data.sha256 == want


def test_quantities_are_scaled_and_come_back(table, config):
    asked = replace(config, task="regression", label=("volt",), ignore=("state",))
    made = prepare(table, asked)
    train = made.data.split("train")
    assert abs(float(train.y.mean())) < 1e-6
    back = made.preparation.targets_back(train.y.numpy())
    assert 380 < back.min() < back.max() < 420
    assert made.preparation.names == ("temp",)
    # Of a window the mean of all its steps.
    means = prepare(table, replace(asked, window_label="mean"))
    part = means.data.split("train")
    volts = {(row[0], row[1]): row[3] for row in plant.rows()}
    name, start, stop = (part.columns[key][0] for key in ("name", "start", "stop"))
    want = np.mean([volts[name, step] for step in range(int(start), int(stop))])
    assert means.preparation.targets_back(part.y.numpy())[0, 0] == pytest.approx(want)
    with pytest.raises(InputError, match="window_label is mean"):
        replace(config, window_label="mean")


@pytest.mark.parametrize("cell", ["", "NA", "nan", "-9999"])
def test_a_gap_takes_the_value_before_it(table, config, tmp_path, cell):
    items = plant.rows()
    whole = [*items]
    whole[30] = (*items[30][:2], items[29][2], *items[30][3:])
    items[30] = (*items[30][:2], cell, *items[30][3:])
    path = plant.write(tmp_path / "gap.csv", items)
    made = prepare(path, replace(config, missing=(-9999.0,)))
    want = prepare(plant.write(tmp_path / "whole.csv", whole), config)
    assert made.data.sha256 == want.data.sha256
    assert "1 gap (temp 1)" in made.findings[0].message
    assert "row 32" in made.findings[0].message
    with pytest.raises(DataError, match="1 gap"):
        prepare(path, replace(config, missing=(-9999.0,), gaps="refuse"))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"label": ("stat",)},
            "no column 'stat', which was given as a label.*did you mean 'state'",
        ),
        (
            {"sequence": None, "ignore": ("machine",)},
            "recording 'plant' changes its plant.*--sequence",
        ),
        (
            {"sequence": None, "group": None, "ignore": ("plant", "machine")},
            "has the time of anoth",
        ),
        ({"group": None}, "column 'plant' holds words.*--ignore plant"),
        ({"task": None}, "task is missing"),
        ({"label": ()}, "no column is a label|holds words"),
        ({"task": "regression"}, "the target is fine.*numbers"),
    ],
)
def test_what_is_wrong_is_named_with_a_cure(table, config, changes, error):
    with pytest.raises((DataError, InputError), match=error):
        prepare(table, replace(config, **changes))


def test_a_column_has_one_role():
    with pytest.raises(InputError, match="column 'a' has two roles"):
        PrepareConfig(time="a", label=("a",))


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("1_000", "p.csv row 9, column 'v': '1_000' is not a number"),
        ("abc", "p.csv row 9, column 'v': 'abc' is not a number"),
        ("2026-01-31 12:00:00", "p.csv row 9, column 'v': '2026-01-31 12:00:00' is not a number"),
    ],
)
def test_one_cell_among_numbers_is_named_with_its_row(tmp_path, cell, said):
    lines = ["v,label", *(f"{cell if row == 7 else row},a" for row in range(20))]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=re.escape(said)):
        read(tmp_path / "p.csv", PrepareConfig())


@pytest.mark.parametrize(
    ("cell", "holds"), [("2026-01-{:02}", "times"), ("31.01.20{:02}", "times"), ("x{}", "words")]
)
def test_a_column_of_no_numbers_is_called_what_it_is(tmp_path, cell, holds):
    lines = ["when,v,label", *(f"{cell.format(row)},{row},a" for row in range(10, 20))]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=f"column 'when' holds {holds}, no numbers"):
        read(tmp_path / "p.csv", PrepareConfig())


@pytest.mark.parametrize(("encoding", "said"), [("shift_jis", True), ("utf-8", False)])
def test_an_encoding_that_is_guessed_is_said(tmp_path, encoding, said):
    lines = ["温度,label", *(f"{row % 7},{'ab'[row % 2]}" for row in range(20))]
    (tmp_path / "p.csv").write_bytes("\n".join(lines).encode(encoding))
    found, _ = read(tmp_path / "p.csv", PrepareConfig())
    told = [item.message for item in plausibility(found) if item.kind == "encoding"]
    assert ["iconv -f SHIFT_JIS -t UTF-8 p.csv" in item for item in told] == [True] * said
