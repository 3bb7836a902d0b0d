"""Answers in parts: equal to the whole, gone on from, refused where something else is asked."""

import os

import pytest
import torch

from helpers.toy import tiny_data, tiny_model
from recordings import plant
from ssmith import api
from ssmith.core.errors import ArtefactError, DataError, InputError, OutputExistsError
from ssmith.core.preparation import PrepareConfig
from ssmith.core.progress import silent
from ssmith.data import save_npz
from ssmith.families import SequenceConfig, SequenceModel
from ssmith.recordings import prepare
from ssmith.serving import long, predict
from ssmith.serving.job import AnswerConfig, AnswerPlaces, answer
from ssmith.serving.writing import table_of, write_tables


@pytest.fixture
def model(tmp_path):
    config = PrepareConfig(
        task="classification", sequence="machine", time="ts", label=("state",), ignore=("plant",),
        window=12, stride=1,
    )  # fmt: skip
    made = prepare(plant.write(tmp_path / "train.csv", plant.rows()), config)
    sizes = SequenceConfig(family="s5", width=4, states=(3,), channels=2, outputs=2)
    found = SequenceModel(sizes, torch.Generator().manual_seed(0), made.preparation)
    api.save(found, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def source(tmp_path):
    rows = sorted(plant.rows(machines=15, steps=130, seed=1), key=lambda row: row[1])
    return plant.write(tmp_path / "new.csv", rows)


def told(model, source, out, progress=silent, **more):
    asked = AnswerPlaces(model=str(model), data=str(source), out=out, **more)
    return answer(asked, AnswerConfig(), progress).summary


class Killed(BaseException):
    """As a signal: nothing handles it."""


def die_at(count):
    calls = 0

    def progress(*_, **__):
        nonlocal calls
        calls += 1
        if calls == count:
            raise Killed

    return progress


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_interrupted_anywhere_it_ends_in_the_bytes_of_the_whole(
    kind, model, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(long, "_PAUSE", 0.0)
    found = predict(api.load(model), source)
    table = table_of(found.columns)
    write_tables(tmp_path / f"whole.{kind}", [table.schema], [table])
    out = tmp_path / f"out.{kind}"
    assert len(found) == 15 * 119
    for count in (1, 2, 3):
        with pytest.raises(Killed):
            told(model, source, out, die_at(count))
        assert not out.exists()
    asked = []
    original = long.evaluation.predict
    monkeypatch.setattr(
        long.evaluation, "predict",
        lambda model, rows, size: asked.append(len(rows)) or original(model, rows, size),
    )  # fmt: skip
    summary = told(model, source, out)
    # Two parts of 512 rows were kept; the rest is answered now.
    assert sum(asked) == len(found) - 2 * 512
    assert out.read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()
    assert summary["score"] == found.score and summary["labelled"] == len(found)
    assert {item["message"] for item in summary["findings"]} == {
        item.message for item in found.findings
    }
    assert not (tmp_path / f"out.{kind}.parts").exists()


def test_parts_of_something_else_are_refused_by_name(model, source, tmp_path, monkeypatch):
    monkeypatch.setattr(long, "_PAUSE", 0.0)
    out, parts = tmp_path / "out.csv", tmp_path / "out.csv.parts"
    with pytest.raises(Killed):
        told(model, source, out, die_at(2))
    before = source.stat()
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(ArtefactError, match=r"data\.changed was .* and is"):
        told(model, source, out)
    (parts / "thesis.tex").write_text("mine")
    with pytest.raises(ArtefactError, match=r"holds thesis\.tex"):
        told(model, source, out, overwrite=True)
    (parts / "thesis.tex").unlink()
    assert told(model, source, out, overwrite=True)["rows"] == 15 * 119
    assert not parts.exists()


def test_what_is_refused_leaves_nothing(model, source, tmp_path):
    bare = tmp_path / "bare.csv"
    bare.write_text("machine,ts,temp\nm0,1,2\n")
    for path, error in ((bare, DataError), (tmp_path / "none.csv", InputError)):
        with pytest.raises(error):
            told(model, path, tmp_path / "out.csv")
    assert not list(tmp_path.glob("out.csv*"))


def test_parts_that_a_kill_left_beside_a_whole_output_are_swept(model, source, tmp_path):
    out, parts = tmp_path / "out.csv", tmp_path / "out.csv.parts"
    told(model, source, out)
    parts.mkdir()
    for name in ("run.json", "whole"):
        (parts / name).write_text("{}")
    os.utime(parts / "whole", ns=(0, out.stat().st_mtime_ns))
    with pytest.raises(OutputExistsError, match="already exists"):
        told(model, source, out)
    assert not parts.exists()


def test_rows_without_recordings_are_answered_in_parts_too(tmp_path):
    api.save(tiny_model(), tmp_path / "model")
    save_npz(tiny_data(count=200), tmp_path / "data.npz")
    summary = told(tmp_path / "model", tmp_path / "data.npz", tmp_path / "out.csv")
    assert summary["rows"] == 800 and summary["score"]["rows"] == 800
