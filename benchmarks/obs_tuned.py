"""A little training around a cut: before it towards few Hankel singular values, or after it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ssmith import api
from ssmith.families import SequenceModel
from ssmith.jobs.train import Recipe, save_trained, train
from trained import CACHE, location, recipe_of

TUNED, LONGER = "+tuned", "+tuned-longer"
SHARES = {TUNED: 0.1, LONGER: 0.2}
"""Epochs of a training, as a share of the recipe's."""
HANKEL = "hankel+"
RATE = 0.25
"""Its peak learning rates, as a share of the recipe's."""
PENALTY = 0.3
"""Weight of the Hankel term."""


def split(spec: str) -> tuple[str, str]:
    """Return a method as it is without training after it, and which training that is, if any."""
    base, sign, kind = spec.removeprefix(HANKEL).partition(TUNED)
    return base, sign + kind


def short(name: str, share: float, *, hankel: float = 0.0) -> Recipe:
    """Return the recipe of a task with a share of its epochs at a quarter of its rates."""
    recipe = recipe_of(name)
    epochs = max(1, round(share * recipe.fit["epochs"]))
    rates = {key: RATE * recipe.fit[key] for key in ("lr", "ssm_lr")}
    fit = {**recipe.fit, **rates, "epochs": epochs, "patience": epochs, "hankel": hankel}
    return dataclasses.replace(recipe, fit=fit)


def tuned(model: SequenceModel, name: str, seed: int, kind: str) -> tuple[SequenceModel, int]:
    """Train a cut model shortly; what validates best stays, the cut model itself included.

    Args:
        model: the cut model.
        name: of the task.
        seed: of the training.
        kind: a key of `SHARES`.

    Returns:
        The model, and its epoch: 0 if nothing was gained.
    """
    made = train(short(name, SHARES[kind]), seed=seed, start=model)
    after, training = made.model, made.training
    validation = api.load_data(recipe_of(name).data, model).split("validation")
    if api.evaluate(after, validation).value < api.evaluate(model, validation).value:
        return model, 0
    return after, training.best_step * len(training.looks) // training.steps


def reducible(name: str, seed: int, model: SequenceModel) -> SequenceModel:
    """Train a dense model shortly towards few Hankel singular values; kept under .cache/."""
    path: Path = CACHE.parent / "hankel" / location(name, seed).parent.name / f"seed-{seed}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        recipe = short(name, SHARES[TUNED], hankel=PENALTY)
        save_trained(train(recipe, seed=seed, start=model), path)
    return api.load(path)
