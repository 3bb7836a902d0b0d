"""A tiny model, data that fits it, and a way to run a command line in this process."""

import shutil
from dataclasses import replace
from functools import partial

import pytest

from helpers.command import ended
from helpers.toy import tiny_data, tiny_model
from ssmith import api
from ssmith.data import save_npz
from ssmith.evaluation import predict


def known_data():
    """Data that the model is always right on: nobody accepts a cut of one that guesses."""
    data, model = tiny_data(), tiny_model(seed=2)
    splits = {
        name: replace(part, y=predict(model, part).argmax(1)) for name, part in data.splits.items()
    }
    return replace(data, splits=splits)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    place = tmp_path_factory.mktemp("shelf")
    # Of this seed all classes are named, so that always naming one is worse.
    api.save(tiny_model(seed=2), place / "model")
    save_npz(tiny_data(), place / "data.npz")
    save_npz(known_data(), place / "known.npz")
    return place


@pytest.fixture
def place(shelf, tmp_path, monkeypatch):
    """Make an own copy of model and data the current directory."""
    target = tmp_path / "place"
    shutil.copytree(shelf, target)
    monkeypatch.chdir(target)
    return target


@pytest.fixture
def ssmith(capsys):
    return partial(ended, capsys)


def listing(place):
    """Return every path below a place, hidden ones too, with the bytes of every file."""
    return {
        str(item.relative_to(place)): item.read_bytes() if item.is_file() else None
        for item in place.rglob("*")
    }
