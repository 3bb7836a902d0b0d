"""Rows of new data that flow past, against the rows of the whole."""

import json
import random
from itertools import groupby

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch

from ssmith.core.preparation import PrepareConfig
from ssmith.recordings import new_rows, ordered, parts_of_rows, prepare, table_files

NAMES = ("machine", "ts", "temp", "load", "state", "note")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(table_files, "ROWS", 37)
    monkeypatch.setattr(ordered, "_HELD", 60)


def steps(machines=6, seed=0, gaps=0.1, uneven=False, lengths=(1, 30, 50, 90)):
    """Rows of machines of 1 to 90 steps; the first ones of some lack a channel."""
    draw = random.Random(seed)
    found = []
    for machine in range(machines):
        when = 1_700_000_000.0
        count = draw.choice(lengths) if machine else 90
        for step in range(count):
            when += draw.choice([10, 25]) if uneven else 10
            lacks = step < count - 1 and (draw.random() < gaps or step < machine)
            temp, load = f"{draw.gauss(20, 3):.3f}", f"{draw.gauss(0, 1):.3f}"
            found.append((f"m{machine}", when, "" if lacks else temp,
                          load if step != 7 else "99999", draw.choice("ab"),
                          draw.choice(["7", ""])))  # fmt: skip
    return found


def write(path, rows, names=NAMES):
    lines = [",".join(names), *(",".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def config_for(task, **settings):
    labelled = {} if task in ("anomaly", "forecasting") else {"label": ("state",)}
    return PrepareConfig(
        **{"task": task, "sequence": "machine", "time": "ts", "window": 12, "stride": 5,
           "by": "draw",
           "ignore": ("note",), **labelled, **settings}
    )  # fmt: skip


def same(preparation, path, tmp_path, size=16):
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    whole = new_rows(preparation, path)
    made = parts_of_rows(preparation, path, rows=size, scratch=scratch)
    found = list(made.parts)
    assert [len(part.rows) for part in found[:-1]] == [size] * (len(found) - 1)
    start = 0
    for part in found:
        index = torch.arange(start, start + len(part.rows))
        expected = whole.rows.take(index)
        for name in ("x", "lengths", "y"):
            assert torch.equal(getattr(part.rows, name), getattr(expected, name)), name
        assert part.rows.columns == expected.columns
        assert torch.equal(part.labelled, whole.labelled[index])
        start += len(part.rows)
    assert start == len(whole.rows)
    assert made.told == whole.told
    assert sorted(item.message for item in made.findings) == sorted(
        item.message for item in whole.findings
    )
    assert not list(scratch.iterdir())
    return found


ORDERS = {
    "one after the other": lambda rows: rows,
    "among each other": lambda rows: sorted(rows, key=lambda row: row[1]),
    "in no order": lambda rows: random.Random(1).sample(rows, len(rows)),
    "one out of place": lambda rows: [*rows[1:9], rows[0], *rows[9:]],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("task", "settings"),
    [
        ("classification", {}),
        ("classification", {"window_label": "majority", "stride": 17}),
        ("per-step", {"stride": 1}),
        ("anomaly", {"horizon": (1, 4)}),
        ("anomaly", {"score": "reconstruction", "truth": "note"}),
        ("forecasting", {"label": ("temp",), "stride": 1}),
        ("classification", {"time": None, "ignore": ("note", "ts")}),
        (
            "classification",
            {"time": None, "sequence": None, "by": "time", "ignore": ("note", "ts", "machine")},
        ),
        ("classification", {"step": 20.0}),
        ("classification", {"intervals": "measured"}),
        ("classification", {"window": None, "window_label": "last"}),
    ],
    ids=str,
)
def test_a_table_in_any_order(task, settings, order, tmp_path):
    rows = steps(uneven=settings.get("intervals") == "measured")
    if task in ("anomaly", "forecasting"):
        settings = {"ignore": ("note", "state"), **settings}
        settings |= {"ignore": ("state",)} if "truth" in settings else {}
    config = config_for(task, **settings)
    usual = [(*row[:5], "") for row in steps(lengths=[90])]
    made = prepare(write(tmp_path / "train.csv", usual), config)
    new = ORDERS[order](rows)
    same(made.preparation, write(tmp_path / "new.csv", new), tmp_path)


@pytest.fixture
def preparation(tmp_path):
    return prepare(
        write(tmp_path / "train.csv", steps(lengths=[90])), config_for("classification")
    ).preparation


def test_kinds_of_tables(preparation, tmp_path):
    path = write(tmp_path / "new.csv", steps(seed=3))
    table = pyarrow.csv.read_csv(path)
    pyarrow.parquet.write_table(table, tmp_path / "new.parquet", row_group_size=50)
    same(preparation, tmp_path / "new.parquet", tmp_path)
    lines = [json.dumps(row) for row in table.to_pylist()]
    (tmp_path / "new.jsonl").write_text("\n".join(lines))
    same(preparation, tmp_path / "new.jsonl", tmp_path)
    (tmp_path / "new.json").write_text("[" + ",".join(lines) + "]")
    same(preparation, tmp_path / "new.json", tmp_path)
    for name, encoding in (("utf16.csv", "utf-16"), ("old.csv", "cp1252")):
        (tmp_path / name).write_bytes(path.read_text().replace("m1", "mü").encode(encoding))
        found = same(preparation, tmp_path / name, tmp_path)
        assert "mü" in {name for part in found for name in part.rows.columns["name"]}


def test_without_labels_and_with_columns_that_are_not_read(preparation, tmp_path):
    rows = [(row[0], row[3], row[2], row[1], "3.5") for row in steps(seed=4)]
    path = write(tmp_path / "bare.csv", rows, ("machine", "load", "temp", "ts", "more"))
    found = same(preparation, path, tmp_path)
    assert not any(part.labelled.any() for part in found)


def test_times_that_all_look_otherwise_than_the_first(preparation, tmp_path):
    # The first part holds what could be dates; with the last row they are numbers.
    rows = [("m0", 20260101 + step % 28, 1.0 + step, 2.0, "a", "") for step in range(28)]
    rows += [("m1", 20260101 + step % 28, 1.0 + step, 2.0, "a", "") for step in range(28)]
    rows += [("m1", 20260133, 1.0, 2.0, "a", "")]
    found = same(preparation, write(tmp_path / "new.csv", rows), tmp_path)
    assert found[0].rows.columns["time"][0] == "20260112"


def test_a_folder_of_tables(tmp_path):
    for name, rows in groupby(steps(gaps=0.05), key=lambda row: row[0]):
        place = tmp_path / "days" / ("hot" if name in ("m1", "m2", "m0") else "cold")
        place.mkdir(parents=True, exist_ok=True)
        write(place / f"{name}.csv", [row[1:4] for row in rows], NAMES[1:4])
    config = PrepareConfig(task="classification", time="ts", window=12, by="draw")
    made = prepare(tmp_path / "days", config)
    found = same(made.preparation, tmp_path / "days", tmp_path)
    assert all(part.labelled.all() for part in found)


def test_a_folder_of_sound(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    draw = np.random.default_rng(0)
    for place in range(20):
        folder = tmp_path / "sounds" / "ab"[place % 2]
        folder.mkdir(parents=True, exist_ok=True)
        count = int(draw.integers(900, 3000))
        soundfile.write(folder / f"{place}.wav", draw.normal(size=count) * 0.1, 4000)
    made = prepare(tmp_path / "sounds", PrepareConfig())
    same(made.preparation, tmp_path / "sounds", tmp_path, size=7)
