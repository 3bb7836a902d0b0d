"""A tiny model, a cut one, data that fits them, and a way to run a command line."""

import json

import pytest
import torch

from ssmith import api
from ssmith.cli.main import main
from ssmith.core.sequences import SPLITS, SequenceData, Sequences
from ssmith.data import save_npz
from ssmith.families import SequenceConfig, SequenceModel

CLASSES = ("a", "b", "c")


def tiny_model(seed=0, states=6):
    torch.manual_seed(seed)
    config = SequenceConfig(
        family="s5", width=6, states=(states, states), outputs=3, channels=2, classes=CLASSES
    )
    return SequenceModel(config, torch.Generator().manual_seed(seed)).eval()


def tiny_data(count=12):
    def part(index):
        draw = torch.Generator().manual_seed(index)
        return Sequences(
            x=torch.randn(count, 7, 2, generator=draw),
            lengths=torch.randint(3, 8, (count,), generator=draw),
            y=torch.arange(count) % len(CLASSES),
        )

    return SequenceData(
        name="toy",
        task="classification",
        splits={name: part(index) for index, name in enumerate(SPLITS)},
        classes=CLASSES,
    )


class Ended:
    """How a command line ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def document(self):
        return json.loads(self.out)


@pytest.fixture
def ssmith(capsys):
    def run(*words):
        code = main([str(word) for word in words])
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Make a directory with two models and data the current one."""
    api.save(tiny_model(), tmp_path / "old")
    api.save(tiny_model(seed=1), tmp_path / "new")
    save_npz(tiny_data(), tmp_path / "data.npz")
    monkeypatch.chdir(tmp_path)
    return tmp_path
