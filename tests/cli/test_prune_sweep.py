"""``ssmith prune --sweep``: one setting over several values, measured on other text."""

import csv

import pytest

from helpers.tiny_mamba import tiny
from ssmith.core.errors import InputError
from ssmith.core.files import read_json
from ssmith.jobs.sweep import SweptAxis

pytest.importorskip("transformers")
pytest.importorskip("matplotlib")
TEXT = "".join(f"line {number} says {number * number}.\n" for number in range(400))


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    tiny("mamba", vocab_size=256, state_size=4).save_pretrained(tmp_path / "mamba")
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    return tmp_path


def sweep(ssmith, axis, *words):
    return ssmith(
        "prune", "mamba", "--cut", "entry=0.5", "--data", "text.txt", "--samples", "4",
        "--length", "16", "--sweep", axis, *words,
    )  # fmt: skip


def test_a_sweep_leaves_a_table_a_plot_and_no_model(place, ssmith):
    ended = sweep(ssmith, "entry=0.25,0.75", "--out", "swept")
    assert ended.code == 0
    assert sorted(item.name for item in (place / "swept").iterdir()) == [
        "manifest.json", "sweep.csv", "sweep.json", "sweep.svg",
    ]  # fmt: skip
    found = read_json(place / "swept" / "sweep.json")
    assert [row["value"] for row in found["rows"]] == [0.25, 0.75]
    for row in found["rows"]:
        wanted = row["perplexity"] / found["dense"]["perplexity"] - 1
        assert row["increase"] == pytest.approx(wanted, abs=1e-12)
        assert row["low"] <= row["increase"] <= row["high"]
    assert found["rows"][0]["perplexity"] != found["rows"][1]["perplexity"]
    assert found["dense"]["measured_on"]["details"]["split"] == "selection"
    drawn = list(csv.DictReader((place / "swept" / "sweep.csv").read_text().splitlines()))
    assert [float(row["value"]) for row in drawn] == [0.25, 0.75]
    assert "increase of perplexity" in (place / "swept" / "sweep.svg").read_text()


def test_a_dry_sweep_is_one_document_and_writes_nothing(place, ssmith):
    before = sorted(place.rglob("*"))
    ended = sweep(ssmith, "samples=1,2", "--dry-run", "--json")
    assert ended.document["directory"] is None
    assert [row["value"] for row in ended.document["sweep"]["rows"]] == [1.0, 2.0]
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("text", ["samples", "samples=", "samples=1,x", "samples=1.5", "=1"])
def test_what_is_no_sweep_is_refused(text):
    with pytest.raises(InputError, match="NAME=VALUE"):
        SweptAxis.parse(text)


@pytest.mark.parametrize("axis", ["state=0.25", "width=0.1", "weight=0.5"])
def test_a_sweep_over_what_is_not_cut_is_refused(place, ssmith, axis):
    ended = sweep(ssmith, axis, "--dry-run")
    assert ended.code == 2
    assert "which is not cut" in ended.err
