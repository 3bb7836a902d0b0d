"""A tiny model that was really trained, the data it was trained on, and a pilot of it."""

import dataclasses
import shutil

import pytest

from jobs.toy import QUICK, recipe, toy
from ssmith.data import save_npz
from ssmith.jobs.pilot import pilot
from ssmith.jobs.train import save_trained, train

COMMAND = ("ssmith", "pilot", "model")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    """``model/``, trained, and ``data.npz``; read only."""
    place = tmp_path_factory.mktemp("shelf")
    save_npz(toy(), place / "data.npz")
    how = recipe(place / "data.npz")
    save_trained(train(how, seed=0), place / "model")
    return place


@pytest.fixture
def quick():
    """Change the settings of a pilot of about a second."""
    return lambda **changes: dataclasses.replace(QUICK, **changes)


@pytest.fixture
def start(shelf, tmp_path, monkeypatch):
    """Run a pilot of the toy model; its report is drawn only if asked for, which takes a second."""

    def run(config=QUICK, *, data=None, model=None, out=None, report=False, **options):
        if not report:
            monkeypatch.setattr("ssmith.jobs.pilot.run.write_report", lambda *_: None)
        return pilot(
            str(model or shelf / "model"),
            str(data or shelf / "data.npz"),
            out or tmp_path / "out",
            config,
            **{"command": COMMAND, **options},
        )

    return run


@pytest.fixture(scope="session")
def finished(shelf, tmp_path_factory):
    """A finished pilot and its receipt; read only."""
    out = tmp_path_factory.mktemp("finished") / "out"
    model, data = str(shelf / "model"), str(shelf / "data.npz")
    return out, pilot(model, data, out, QUICK, command=COMMAND)


@pytest.fixture
def copy_of(tmp_path):
    """Copy a directory to where it may be changed."""
    return lambda place, name="copy": shutil.copytree(place, tmp_path / name)
