"""A tiny model, a cut one, data that fits them, and a way to run a command line."""

from functools import partial

import pytest

from helpers.command import ended
from helpers.toy import tiny_data, tiny_model
from ssmith import api
from ssmith.data import save_npz


@pytest.fixture
def ssmith(capsys):
    return partial(ended, capsys)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Make a directory with two models and data the current one."""
    api.save(tiny_model(), tmp_path / "old")
    api.save(tiny_model(seed=1), tmp_path / "new")
    save_npz(tiny_data(), tmp_path / "data.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path
