"""A tiny model, data that fits it, and a way to run a command line in this process."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from ssmith import api
from ssmith.cli.main import main
from ssmith.core.sequences import SPLITS, SequenceData, Sequences
from ssmith.data import save_npz
from ssmith.evaluation import predict
from ssmith.families import SequenceConfig, SequenceModel

CLASSES = ("a", "b", "c")
COUNT = 12


def tiny_model(channels=2, seed=0):
    torch.manual_seed(seed)
    config = SequenceConfig(
        family="s5", width=6, states=(6, 6), outputs=3, channels=channels, classes=CLASSES
    )
    return SequenceModel(config, torch.Generator().manual_seed(seed)).eval()


def tiny_data(channels=2, classes=CLASSES):
    def part(index):
        draw = torch.Generator().manual_seed(index)
        return Sequences(
            x=torch.randn(COUNT, 7, channels, generator=draw),
            lengths=torch.randint(3, 8, (COUNT,), generator=draw),
            y=torch.arange(COUNT) % len(classes),
        )

    return SequenceData(
        name="toy",
        task="classification",
        splits={name: part(index) for index, name in enumerate(SPLITS)},
        classes=classes,
    )


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


def listing(place):
    """Return every path below a place, hidden ones too, with the bytes of every file."""
    return {
        str(item.relative_to(place)): item.read_bytes() if item.is_file() else None
        for item in place.rglob("*")
    }
