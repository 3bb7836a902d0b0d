"""A problem that a tiny model learns in a second, and the recipe for it."""

import json

import torch

from ssmith.core.sequences import SPLITS, SequenceData, Sequences
from ssmith.jobs.pilot import PilotConfig
from ssmith.jobs.train import Recipe

COUNTS = {"train": 96, "validation": 40, "selection": 80, "test": 80}
LENGTH = 24
MODEL = {
    "family": "s5",
    "width": 8,
    "states": [8, 8],
    "dropout": 0.1,
    "options": {"dt_min": 0.1, "dt_max": 1.0},
}
FIT = {"epochs": 6, "batch_size": 16, "lr": 0.02, "ssm_lr": 0.01}
QUICK = PilotConfig(
    method="last",
    baselines=("magnitude-global", "random"),
    sparsities=(0.25, 0.5, 0.6, 0.75, 0.95),
    refine=2,
    max_loss=0.05,
    batch_size=32,
    speed_seconds=0.01,
)


def part(count, seed):
    """Slow and fast waves under noise, of unequal lengths."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 2
    phase = 6.28 * torch.rand(count, 1, generator=draw)
    steps = torch.arange(LENGTH).float()
    waves = torch.sin(phase + steps * (0.35 + 0.5 * y[:, None]))
    x = waves + 0.7 * torch.randn(count, LENGTH, generator=draw)
    lengths = torch.randint(LENGTH - 8, LENGTH + 1, (count,), generator=draw)
    x = torch.where(steps < lengths[:, None], x, torch.zeros(()))
    return Sequences(x=x.unsqueeze(2), lengths=lengths, y=y)


def toy(**changed):
    """The data set; single splits can be replaced."""
    splits = {name: part(COUNTS[name], seed) for seed, name in enumerate(SPLITS)}
    return SequenceData(
        name="toy",
        task="classification",
        splits={**splits, **changed},
        classes=("slow", "fast"),
    )


def recipe(data, **changes):
    """The recipe; its model and fit can be replaced."""
    given = {"data": str(data), "model": MODEL, "fit": FIT, "title": "Toy"}
    return Recipe(**{**given, "notes": ("For tests.",), **changes})


def contents(place):
    """Every file below a directory, hidden ones too."""
    return {
        item.relative_to(place).as_posix(): item.read_bytes()
        for item in sorted(place.rglob("*"))
        if item.is_file()
    }


def stage(out, name):
    """The result of one stage of a pilot."""
    return json.loads((out / "stages" / f"{name}.json").read_text())["result"]
