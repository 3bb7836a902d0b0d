import csv
import json

import pytest

from helpers.command import ended
from recordings import plant

GIVEN = ("--sequence", "machine", "--time", "ts", "--label", "state", "--group", "plant")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    items = plant.rows()
    items[100] = (*items[100][:2], -9999, *items[100][3:])
    plant.write(tmp_path / "plant.csv", items)
    return tmp_path


def test_a_page_shows_what_is_there_and_what_looks_wrong(place, capsys):
    done = ended(capsys, "data", "plant.csv", *GIVEN, "--report", "look", "--json")
    assert done.code == 0, done.err
    facts = done.document
    assert (facts["recordings"], facts["steps"], facts["every"]) == (12, [96, 96, 96], 1.0)
    assert facts["labels"] == {"failing": 576, "fine": 576} and facts["labelled"] == "steps"
    temp = facts["channels"][0]
    assert (temp["name"], temp["low"], temp["gaps"]) == ("temp", -9999.0, 0)
    assert [item["kind"] for item in facts["findings"]] == ["sentinel"]
    page = (place / "look" / "data.html").read_text()
    assert "far from all others" in page and page.count("<svg") == 4
    assert json.loads((place / "look" / "data.json").read_text()) == facts
    with (place / "look" / "plots" / "labels.csv").open() as stream:
        assert [*csv.reader(stream)][1:] == [["failing", "576"], ["fine", "576"]]
    with (place / "look" / "plots" / "series-0.csv").open() as stream:
        assert len([*csv.reader(stream)]) == 97


def test_a_task_shows_the_rows_of_a_training(place, capsys):
    done = ended(capsys, "data", "plant.csv", *GIVEN, "--task", "classification",
                 "--missing", "-9999", "--window", "12")  # fmt: skip
    assert done.code == 0, done.err
    assert "rows of 12 steps: train" in done.out and "1 gap (temp 1)" in done.out


def test_an_earlier_page_is_kept(place, capsys):
    for code, more in ((0, ()), (2, ()), (0, ("--overwrite",))):
        done = ended(capsys, "data", "plant.csv", *GIVEN, "--report", "look", *more)
        assert done.code == code, done.err
