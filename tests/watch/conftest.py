"""A small cut model in a line, with its profile, made once; and rows that it may see."""

import copy
import shutil

import numpy as np
import pytest
import torch

from helpers.command import ended
from ssmith import api, spine
from ssmith.cli.main import main
from ssmith.core.budget import Budget
from ssmith.core.sequences import SPLITS, SequenceData, Sequences
from ssmith.data import save_npz
from ssmith.families import SequenceConfig, SequenceModel
from ssmith.release.adding import keep
from ssmith.release.begin import init
from ssmith.release.line import Line
from ssmith.release.opening import opened
from ssmith.surgery import prune_

CLASSES = ("a", "b", "c")
COUNT, STEPS = 150, 12


def rows(seed, count=COUNT, size=1.0, turn=False):
    """Noisy waves of three speeds; the class is the speed."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 3
    time = torch.arange(STEPS) / STEPS
    wave = torch.sin(2 * torch.pi * (y[:, None] + 1) * time + torch.rand(count, 1, generator=draw))
    other = torch.randn(count, STEPS, generator=draw)
    x = torch.stack([wave + 0.3 * other, other], dim=-1) * size
    x = x.flip(1).cumsum(1) if turn else x
    return Sequences(x=x, lengths=torch.full((count,), STEPS), y=y)


def data():
    splits = {name: rows(place) for place, name in enumerate(SPLITS)}
    return SequenceData(name="waves", task="classification", splits=splits, classes=CLASSES)


def dense_model():
    torch.manual_seed(0)
    config = SequenceConfig(
        family="s5", width=8, states=(8, 8), outputs=3, channels=2, classes=CLASSES
    )
    model = SequenceModel(config, torch.Generator().manual_seed(0))
    train, optimiser = rows(0), torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(train.x, train.lengths), train.y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


@pytest.fixture(scope="session")
def dense():
    return dense_model()


@pytest.fixture(scope="session")
def plan(dense):
    return spine.plan(dense, Budget("state", 0.5), rows(0))


@pytest.fixture(scope="session")
def model(dense, plan):
    small = copy.deepcopy(dense)
    prune_(small, plan)
    return small


@pytest.fixture(scope="session")
def shelf(tmp_path_factory, dense, plan, model):
    """A directory with a line of the dense and the cut model, and data."""
    place = tmp_path_factory.mktemp("watched")
    api.save(dense, place / "dense")
    api.save(model, place / "small", extra_files=plan.files(), parent=plan.model_digest)
    save_npz(data(), place / "data.npz")
    for name, changed in (("same", {}), ("changed", {"turn": True})):
        some = rows(9, **changed)
        np.savez(place / f"{name}.npz", x=some.x.numpy())
        classes = np.array(CLASSES)[some.y.numpy()]
        np.savez(place / f"{name}-labelled.npz", x=some.x.numpy(), y=classes)
    line = init(place / "line", name="waves")
    for name in ("dense", "small"):
        keep(line, opened(place / name))
    digest = line.versions()[-1].digest
    assert main(["watch", str(place / "line"), "--version", digest, "--take", "--quiet",
                 "--data", str(place / "data.npz")]) == 0  # fmt: skip
    return place


@pytest.fixture
def place(shelf, tmp_path, monkeypatch):
    """An own copy of it as the current directory."""
    target = tmp_path / "place"
    shutil.copytree(shelf, target, symlinks=True)
    monkeypatch.chdir(target)
    return target


@pytest.fixture
def cut(place):
    """Digest of the cut version."""
    return Line.open("line").versions()[-1].digest


@pytest.fixture
def watch(capsys, cut):
    """Run ``ssmith watch`` on the cut version."""

    def run(*words, version=cut):
        return ended(capsys, "watch", "line", "--version", version, *words)

    return run
