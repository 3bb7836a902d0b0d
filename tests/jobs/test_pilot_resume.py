"""A pilot killed at any point and resumed ends as one that was never interrupted."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.conftest import COMMAND
from jobs.toy import contents, part, toy
from ssmith.core.errors import ArtefactError, MissingExtraError, OutputExistsError
from ssmith.core.sections import Measured
from ssmith.data import save_npz
from ssmith.jobs.pilot.directory import RunDirectory

POINTS = {
    "in the first file": "write:run.json",
    "between the sweeps": "tell:11",
    "in a later file": "write:sweep-random-0.5.json",
    "before the model has its place": "rename:1",
    "after the cut": "tell:17",
    "while the model is replaced": "exchange:1",
    "before the test split is read": "tell:19",
    "before the report": "tell:20",
    "among the plots": "write:quality.csv",
}
SERIES = {"nine times": ",".join(POINTS.values()), "once": POINTS["before the test split is read"]}
AT_RANDOM = ["at random, early", "at random, late"]
ALL = [*SERIES, *AT_RANDOM]


@pytest.fixture(scope="module")
def killed(shelf, tmp_path_factory):
    """Where all series have ended, and how each of their attempts ended."""
    root = tmp_path_factory.mktemp("killed")
    early, late = random.uniform(0, 0.5), random.uniform(0.5, 1.5)
    series = SERIES | dict(zip(AT_RANDOM, (f"after:{early:.4f}", f"after:{late:.4f}"), strict=True))
    names = {spec: name for name, spec in series.items()}
    given = [shelf / "model", shelf / "data.npz", root, " ".join(COMMAND), *names]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killed.py"), *given],
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "PYTHONWARNINGS": "ignore",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ends = {}
    for line in done.stdout.splitlines():
        spec, _, code = line.split()
        ends.setdefault(names[spec], []).append(int(code))
    return {name: (root, spec, ends[name]) for spec, name in names.items()}


def untimed(files):
    """The files that hold no time: the same in every run."""
    return {
        name: content
        for name, content in files.items()
        if name in ("plan.json", "stages/run.json", "stages/baseline.json")
        or re.match(r"model/|stages/(sweep|refine)-|plots/(quality|layers|scores)", name)
    }


def without_times(content):
    """A receipt without its measured times and what follows from them."""
    receipt = json.loads(content)
    for name in ("speed", "saving", "verdict", "time"):
        receipt.pop(name)
    receipt["findings"] = [item for item in receipt["findings"] if item["kind"] != "unsettled"]
    return receipt


@pytest.mark.parametrize("name", ALL)
def test_it_ends_as_if_never_interrupted(killed, finished, name):
    root, spec, (*attempts, last) = killed[name]
    # A run killed from outside may have been done already.
    assert set(attempts) <= ({-9, 0} if name in AT_RANDOM else {9})
    assert last == 0
    got, expected = contents(root / spec), contents(finished[0])
    assert set(got) == set(expected)
    assert untimed(got) == untimed(expected)
    assert len(untimed(got)) > 15
    assert without_times(got["receipt.json"]) == without_times(expected["receipt.json"])


@pytest.mark.parametrize("name", ALL)
def test_what_a_killed_run_had_written_keeps_its_bytes(killed, name):
    root, spec, ends = killed[name]
    final = contents(root / spec)
    for number in range(len(ends) - 1):
        left = root / f"{spec}.{number}"
        for file, content in (contents(left) if left.exists() else {}).items():
            # What has a name is whole; what an interrupted write left has none.
            assert f"/{file}".count("/.") or final[file] == content, file


def test_the_points_are_where_they_are_said_to_be(killed):
    root, spec, _ = killed["nine times"]
    left = {point: contents(root / f"{spec}.{number}") for number, point in enumerate(POINTS)}
    scraps = {
        point: sorted(file for file in files if f"/{file}".count("/."))
        for point, files in left.items()
    }
    assert scraps["in the first file"][0].startswith("stages/.run.json.")
    assert "stages/sweep-random-0.25.json" not in left["between the sweeps"]
    assert scraps["in a later file"][0].startswith("stages/.sweep-random-0.5.json.")
    assert "model/config.json" not in left["before the model has its place"]
    assert any(file.startswith(".model.") for file in scraps["before the model has its place"])
    assert "model/config.json" in left["after the cut"]
    # It has the old one's place in one step, so that there is always one.
    assert "model/config.json" in left["while the model is replaced"]
    assert any(file.startswith(".model.") for file in scraps["while the model is replaced"])
    assert "stages/measured.json" not in left["before the test split is read"]
    assert "stages/measured.json" in left["before the report"]
    assert "receipt.json" not in left["before the report"]
    assert scraps["among the plots"][0].startswith("plots/.quality.csv.")


def test_resuming_a_finished_pilot_changes_no_byte(finished, copy_of, start):
    out = copy_of(finished[0])
    before = contents(out)
    receipt = start(out=out, resume=True, command=("ssmith", "again"), report=True)
    assert contents(out) == before
    assert receipt == finished[1]


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"max_loss": 0.06}, {"sparsities": (0.3,)}, {"method": "aire"}, {"threads": 1}],
    ids=str,
)
def test_other_settings_are_refused(finished, copy_of, start, quick, change):
    out = copy_of(finished[0])
    before = contents(out)
    key = next(iter(change))
    with pytest.raises(
        ArtefactError, match=rf"other settings or data: config\.{key} was .* and is "
    ):
        start(quick(**change), out=out, resume=True)
    assert contents(out) == before


def test_other_data_or_another_model_is_refused(finished, copy_of, start, shelf, tmp_path):
    out = copy_of(finished[0])
    with pytest.raises(ArtefactError, match=r"data: model\.digest was"):
        start(out=out, resume=True, model=finished[0] / "model")
    other = copy_of(shelf, "other") / "data.npz"
    with pytest.raises(ArtefactError, match=r"data\.counts\.test was"):
        start(out=out, resume=True, data=_shorter(other))


def _shorter(path):
    save_npz(toy(test=part(10, 3)), path, overwrite=True)
    return path


def test_another_version_is_refused(finished, copy_of, start):
    out = copy_of(finished[0])
    path = out / "stages" / "run.json"
    content = json.loads(path.read_text())
    content["identity"]["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=r'versions\.torch was "1\.0" and is'):
        start(out=out, resume=True)


def test_an_occupied_output_is_refused(finished, copy_of, start):
    out = copy_of(finished[0])
    before = contents(out)
    with pytest.raises(OutputExistsError, match="--resume"):
        start(out=out)
    assert contents(out) == before


@pytest.mark.parametrize("name", ["notes.txt", ".notes", "stages/notes.txt", ".a.12345678/b"])
@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_directory_that_holds_no_pilot_is_left_alone(start, tmp_path, name, how):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="holds no pilot"):
        start(**{how: True})
    assert contents(tmp_path / "out") == {name: b"mine"}


def test_a_file_is_never_replaced(start, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputExistsError, match="holds no pilot"):
        start(overwrite=True)
    assert (tmp_path / "out").read_text() == "mine"


def test_resume_without_anything_is_a_fresh_start(start, quick, tmp_path):
    (tmp_path / "out").mkdir()
    start(quick(baselines=(), sparsities=(0.95,), refine=0, max_loss=0.0), resume=True)
    assert (tmp_path / "out" / "receipt.json").is_file()


def test_overwriting_starts_afresh(finished, copy_of, start, quick):
    out = copy_of(finished[0])
    start(quick(baselines=(), sparsities=(0.95,), refine=0, max_loss=0.0), out=out, overwrite=True)
    left = contents(out)
    assert set(left) == {
        "receipt.json", "stages/run.json", "stages/baseline.json", "stages/sweep-last-0.95.json",
        "stages/measured.json", "manifest.json",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["thesis.tex", "model/mine", "stages/mine.json", "plots/mine.svg"])
@pytest.mark.parametrize("how", ["resume", "overwrite"])
def test_a_file_among_those_of_a_pilot_is_never_lost(finished, copy_of, start, name, how):
    out = copy_of(finished[0])
    (out / name).write_text("mine")
    before = contents(out)
    with pytest.raises(OutputExistsError, match=name):
        start(out=out, **{how: True})
    assert contents(out) == before


@pytest.mark.parametrize("what", ["model", "data", "own_metric"])
def test_an_input_is_never_overwritten(shelf, copy_of, start, quick, what):
    place = copy_of(shelf)
    (place / "own.py").write_text("def f(outputs, y):\n    return 0.0\n")
    before = contents(place)
    given = {"model": {"model": place / "model"}, "data": {"data": place / "data.npz"}}
    config = quick(own_metric=f"{place / 'own.py'}:f" if what == "own_metric" else None)
    with pytest.raises(OutputExistsError, match="would replace the input"):
        start(config, out=place, overwrite=True, **given.get(what, {}))
    assert contents(place) == before


def test_a_missing_package_is_missed_before_the_work(start, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"ssmith\[report\]"):
        start()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ['{"result": {"rows": 3}, "sha256": "x"}', "{}", "[", '"a"'])
def test_a_stage_that_was_changed_is_not_used(tmp_path, content):
    directory = RunDirectory(tmp_path)
    directory.open({"seed": 0}, ["ssmith"], resume=False, overwrite=False)
    half = Measured(value=0.5)
    assert directory.cached("baseline", Measured, lambda: half) == half
    assert directory.cached("baseline", Measured, lambda: None) == half
    (tmp_path / "stages" / "baseline.json").write_text(content)
    with pytest.raises(ArtefactError, match=r"baseline\.json"):
        directory.cached("baseline", Measured, lambda: None)
