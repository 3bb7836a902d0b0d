"""A byte language model trained for a second, and the text it was trained on."""

import dataclasses

from ssmith.jobs.pilot import PilotConfig
from ssmith.jobs.train import Recipe, train

QUICK = PilotConfig(
    sparsities=(0.25, 0.5),
    baselines=("random",),
    samples=4,
    length=32,
    windows=6,
    test_windows=6,
    max_loss="1000 %",
    speed_seconds=0.001,
    recall_texts=0,
)
FIT = {"steps": 30, "batch_size": 4, "length": 32, "lr": 2e-2, "evaluate_every": 15}


def write_text(path):
    """About 5 kB in which much can be predicted."""
    lines = [f"line {n}: the square of {n} is {n * n}.\n" for n in range(150)]
    path.write_text("".join(lines))
    return path


def recipe(text, **changes):
    made = Recipe(
        kind="language",
        data={"text": str(text)},
        model={"width": 12, "layers": 2, "states": 4},
        fit=FIT,
        title="Squares",
        notes=("Knows squares.",),
    )
    return dataclasses.replace(made, **changes)


def trained(text, seed=0, **options):
    return train(recipe(text), seed=seed, **options)
