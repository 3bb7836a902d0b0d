"""A little training around a cut: before it towards few Hankel singular values, or after it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ssmith import api
from ssmith.families import SequenceModel
from ssmith.jobs.train import Recipe, save_trained, train
from trained import CACHE, location, recipe_of

TUNED = "+tuned"
HANKEL = "hankel+"
SHARE = 0.1
"""Epochs of a short training, as a share of the recipe's."""
RATE = 0.25
"""Its peak learning rates, as a share of the recipe's."""
PENALTY = 0.3
"""Weight of the Hankel term."""


def short(name: str, *, hankel: float = 0.0) -> Recipe:
    """Return the recipe of a task with a tenth of its epochs at a quarter of its rates."""
    recipe = recipe_of(name)
    epochs = max(1, round(SHARE * recipe.fit["epochs"]))
    rates = {key: RATE * recipe.fit[key] for key in ("lr", "ssm_lr")}
    fit = {**recipe.fit, **rates, "epochs": epochs, "patience": epochs, "hankel": hankel}
    return dataclasses.replace(recipe, fit=fit)


def tuned(model: SequenceModel, name: str, seed: int) -> tuple[SequenceModel, int]:
    """Train a cut model shortly; what validates best stays, the cut model itself included.

    Returns:
        The model, and its epoch: 0 if nothing was gained.
    """
    after, done = train(short(name), seed=seed, start=model)
    validation = api.load_data(recipe_of(name).data, model).split("validation")
    if api.measure(after, validation).value < api.measure(model, validation).value:
        return model, 0
    return after, done.best_epoch


def reducible(name: str, seed: int, model: SequenceModel) -> SequenceModel:
    """Train a dense model shortly towards few Hankel singular values; kept under .cache/."""
    path: Path = CACHE.parent / "hankel" / location(name, seed).parent.name / f"seed-{seed}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        recipe = short(name, hankel=PENALTY)
        after, done = train(recipe, seed=seed, start=model)
        save_trained(after, recipe, done, path)
    return api.load(path)
