"""A recipe for data that has none: sizes from the data, a rate that was tried, classes balanced."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from ssmith.core.checks import check_choice, check_integer, check_number
from ssmith.core.errors import NumericalError
from ssmith.core.preparation import Preparation
from ssmith.core.progress import Progress, silent
from ssmith.core.sequences import SequenceData
from ssmith.core.settings import to_mapping
from ssmith.families import TaskModel
from ssmith.families.hf import engine
from ssmith.jobs.train.recipe import MAMBA, Recipe
from ssmith.tune.training import FitConfig, fit

_TITLES = {"s5": "S5", "s4d": "S4D", MAMBA: "Mamba"}
_RATES = (4e-3, 1e-3, 2.5e-4)
_BETTER = 0.9
"""Share of the loss at a rate that a lower one must come below to be taken in its place."""
_TRIED_ROWS, _TRIED_EPOCHS = 512, 3
_FEW, _DEEP, _FLAT = 2, 4, 2
"""Numbers of a step from which fewer layers do, and the layers below and above."""
_STEPS = 1500
"""Optimiser steps a training takes at most, unless told otherwise."""
_IMBALANCED = 2.0
"""Times that the most frequent class is more frequent than the mean, from which classes count."""


@dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """What may be said of a model for which there is no recipe.

    Args:
        family: of its layers.
        width: of the model; from the rows and channels if None.
        layers: of state spaces; if None 4 where a step holds a token or at most two numbers, so
            that what tells rows apart is built up over depth, and else 2.
        states: of each layer (S5), or of each channel (S4D, Mamba); from the length of the rows if
            None.
        epochs: most passes over the training rows; from their number if None.
        lr: learning rate; 0.004 if None, or less where a short trial shows that to be too high.
        balance: 1 for all classes alike, 0 for all rows alike; None: 1 where one class is twice as
            frequent as the mean, else 0.
    """

    family: Literal["s5", "s4d", "mamba"] = "s5"
    width: int | None = None
    layers: int | None = None
    states: int | None = None
    epochs: int | None = None
    lr: float | None = None
    balance: float | None = None

    def __post_init__(self) -> None:
        check_choice("family", self.family, ("s5", "s4d", MAMBA))
        for name in ("width", "layers", "states", "epochs"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), at_least=1)
        if self.lr is not None:
            check_number("lr", self.lr, above=0)
        if self.balance is not None:
            check_number("balance", self.balance, at_least=0, below=1 + 1e-9)


def chosen_recipe(
    source: str,
    data: SequenceData,
    preparation: Preparation | None,
    config: ChoiceConfig,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Recipe:
    """Return a recipe for data, called ``source`` in it, that needs nothing else.

    Preparation is how its rows were made of recordings; None if they are taken as they are.
    ``seed`` is of the trials of learning rates, after each of which progress is told.
    """
    part = data.split("train")
    batch = 32 if len(part) >= 256 else 16 if len(part) >= 64 else 8
    per_epoch = math.ceil(len(part) / batch)
    epochs = config.epochs or max(8, min(60, _STEPS // per_epoch))
    fitting: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch,
        # The rate falls to the end, and the last epochs are often the best.
        "patience": max(8, epochs // 2),
        "balance": _balance(data) if config.balance is None else config.balance,
    }
    recipe = Recipe(
        data=source,
        model=_sizes(data, config, preparation),
        fit=fitting,
        prepare=None if preparation is None else _given(preparation.config),
        title=f"{data.name}, {_TITLES[config.family]}",
        notes=("Sizes and settings were chosen from the data.",),
    )
    rate = config.lr or _tried(recipe, data, seed, progress)
    rates = {"lr": rate, "ssm_lr": min(rate, 1e-3)}
    return replace(recipe, fit={**recipe.fit, **rates})


def _sizes(
    data: SequenceData, config: ChoiceConfig, preparation: Preparation | None
) -> dict[str, Any]:
    part = data.split("train")
    channels = part.x.shape[2] if part.x.ndim == 3 else 0
    width = config.width or (64 if len(part) >= 1000 or channels > 16 else 32)
    layers = config.layers or (_DEEP if channels <= _FEW else _FLAT)
    longest = int(part.lengths.max())
    states = config.states or (max(16, min(64, 2 ** round(math.log2(max(16, longest / 2)))))
                               if config.family == "s5" else 16)  # fmt: skip
    # A forecast starts from the end of what is known; a class is one of the whole.
    pooling = "mean" if data.task == "classification" else "last"
    if config.family == MAMBA:
        return {"family": MAMBA, "width": width, "layers": layers, "states": states,
                "pooling": pooling}  # fmt: skip
    found: dict[str, Any] = {
        "family": config.family,
        "width": width,
        "states": [states] * layers,
        "dropout": 0.1,
        "pooling": pooling,
    }
    if config.family == "s4d":
        return {**found, "initialisation": "lin"}
    measured = preparation is not None and preparation.config.intervals == "measured"
    return {**found, "blocks": math.gcd(8, states), **({"intervals": True} if measured else {})}


def _balance(data: SequenceData) -> float:
    if data.task != "classification":
        return 0.0
    counts = data.split("train").y.bincount(minlength=len(data.classes))
    return 1.0 if float(counts.max()) * len(counts) >= _IMBALANCED * float(counts.sum()) else 0.0


def _given(config: object) -> dict[str, Any]:
    """Return settings that are not empty: what is left out has its default."""
    default = to_mapping(type(config)())
    return {name: value for name, value in to_mapping(config).items() if value != default[name]}


def _tried(recipe: Recipe, data: SequenceData, seed: int, progress: Progress) -> float:
    """Return the usual rate, or a lower one at which the loss falls much further in a few steps.

    A few steps show a rate that is too high, and never one that is too low.
    """
    part = data.split("train").first(_TRIED_ROWS)
    few = replace(data, splits={"train": part}, sha256="")
    found, least = _RATES[-1], math.inf
    for place, rate in enumerate(_RATES):
        loss = _loss(recipe, few, rate, seed)
        progress("trying learning rates", place + 1, len(_RATES), f"{rate:g}")
        if math.isfinite(least) and loss > _BETTER * least:
            break
        found, least = rate, loss
    return found


def _loss(recipe: Recipe, few: SequenceData, rate: float, seed: int) -> float:
    """Return the mean loss of the last steps of a short training, infinity if it ran away."""
    model = recipe.new_model(few, seed)
    settings: Mapping[str, Any] = {**recipe.fit, "epochs": _TRIED_EPOCHS, "lr": rate}
    config = FitConfig(**{**settings, "ssm_lr": min(rate, 1e-3), "seed": seed})
    try:
        with engine(model) if isinstance(model, TaskModel) else nullcontext():
            losses = fit(model, few, config, lambda model: (0.0,)).losses
    except NumericalError:
        return math.inf
    last = losses[-max(1, len(losses) // 4) :]
    return sum(last) / len(last)
