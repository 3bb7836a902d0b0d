"""Train a sequence model from a recipe: one JSON file says everything."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssmith import api
from ssmith.core.errors import InputError
from ssmith.core.files import to_json
from ssmith.core.progress import Progress, silent
from ssmith.core.seeds import generator, seeded
from ssmith.core.sequences import SequenceData
from ssmith.evaluation import TASKS, default_task, predict
from ssmith.families import LTIOptions, SequenceConfig, SequenceModel, model_digest
from ssmith.jobs.recipe_file import read_recipe, refuse_unknown
from ssmith.tune import Fit, FitConfig, fit

_FROM_DATA = ("channels", "vocabulary", "outputs", "task", "classes")
RECIPE = "recipe.json"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a training run depends on but its seed.

    Args:
        data: ``embedded:NAME`` or a file (see `ssmith.load_data`).
        model: settings of `SequenceConfig` but those the data decides.
        fit: settings of `FitConfig` but the seed.
        title: headline of the model's card.
        notes: sentences for the card.
    """

    data: str
    model: dict[str, Any]
    fit: dict[str, Any]
    title: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read a recipe.

        Args:
            path: a JSON file.

        Returns:
            The recipe.

        Raises:
            InputError: if a key is unknown or missing, or a value is of another kind.
            ArtefactError: if the file is unreadable or not JSON.
        """
        kinds = {"data": str, "model": dict, "fit": dict, "title": str, "notes": list}
        return cls(**read_recipe(path, kinds, {"data", "model", "fit"}))

    def to_json(self) -> str:
        """Render as JSON."""
        return to_json(dataclasses.asdict(self))

    def model_config(self, data: SequenceData) -> SequenceConfig:
        """Return the model's configuration for a data set.

        Args:
            data: decides inputs, outputs and task.

        Returns:
            The configuration.

        Raises:
            InputError: if a key is unknown, missing or decided by the data, or a value is not
                allowed.
        """
        known = {item.name for item in dataclasses.fields(SequenceConfig)} - set(_FROM_DATA)
        refuse_unknown("model", self.model, known)
        missing = [name for name in ("family", "width", "states") if name not in self.model]
        if missing:
            raise InputError(
                f"model lacks {', '.join(missing)}",
                allowed=", ".join(sorted(known)),
                next_step=f"add {' and '.join(missing)} to model",
            )
        given = dict(self.model)
        states = given.pop("states", None)
        if not isinstance(states, list) or not states:
            raise InputError(
                f"model.states is {states!r}",
                allowed="one number per layer",
                next_step="[16, 16] makes two layers of 16 states",
            )
        options = given.pop("options", {})
        refuse_unknown("model.options", options, {f.name for f in dataclasses.fields(LTIOptions)})
        part = data.split("train")
        targets = part.y[0].numel() if len(part) else 1
        return SequenceConfig(
            **given,
            states=tuple(tuple(item) if isinstance(item, list) else item for item in states),
            options=LTIOptions(**options),
            task=data.task,
            classes=data.classes,
            outputs=len(data.classes) if data.task == "classification" else targets,
            channels=None if data.vocabulary is not None else part.x.shape[2],
            vocabulary=data.vocabulary,
        )

    def fit_config(self, seed: int) -> FitConfig:
        """Return the training settings with a seed.

        Args:
            seed: everything random is derived from it.

        Returns:
            The settings.

        Raises:
            InputError: if a key is unknown or a value is not allowed.
        """
        known = {item.name for item in dataclasses.fields(FitConfig)} - {"seed"}
        refuse_unknown("fit", self.fit, known)
        return FitConfig(**self.fit, seed=seed)


def train(
    recipe: Recipe,
    *,
    seed: int = 0,
    start: SequenceModel | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> tuple[SequenceModel, Fit]:
    """Train a model; the same recipe and seed give the same weights on the same machine.

    The validation split stops the training and picks the epoch; selection and test are not read.

    Args:
        recipe: data, model and settings.
        seed: initial values, order and dropout are derived from it.
        start: a trained model to go on from, e.g. to make it reducible before a cut; it is not
            changed. Its weights take the place of initial values, its settings of the recipe's.
        device: where to train; the model comes back on the CPU.
        checkpoint: file to resume from and to write after each epoch.
        progress: told after each epoch.

    Returns:
        The model in evaluation mode, and what happened.
    """
    data = api.load_data(recipe.data, needs=("train", "validation"))
    config = recipe.fit_config(seed)
    if start is None:
        with seeded(seed, "initial values"):
            model = SequenceModel(recipe.model_config(data), generator(seed, "state space"))
    else:
        model = copy.deepcopy(start)
    model.to(torch.device(device))

    def told(epoch: int, numbers: dict[str, float]) -> None:
        note = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        progress("train", epoch, config.epochs, note)

    done = fit(
        model,
        data,
        config,
        _validator(data),
        checkpoint=checkpoint,
        facts={"model": model.config.as_dict(), **_origin(start)},
        progress=told,
    )
    return model.to("cpu").eval(), done


def _origin(start: SequenceModel | None) -> dict[str, str]:
    return {} if start is None else {"start": model_digest(start)}


def save_trained(
    model: SequenceModel, recipe: Recipe, done: Fit, path: Path, *, overwrite: bool = False
) -> Path:
    """Save a trained model with its recipe and a card that says how good it is.

    Quality is measured on validation, selection and test, where the data has them; test is read
    here for the first time.

    Args:
        model: as `train` returned it.
        recipe: what it was trained from.
        done: what happened in training.
        path: the directory to make.
        overwrite: replace what is there.

    Returns:
        The directory.
    """
    data = api.load_data(recipe.data, model, needs=("validation",))
    table: dict[str, str] = {
        "data": f"{data.name}: {data.source}",
        "data sha256": f"`{data.sha256}`",
        "splits": ", ".join(f"{name} {len(part)}" for name, part in data.splits.items()),
        "seed": str(done.settings["seed"]),
        "best epoch": f"{done.best_epoch} of {len(done.history)}",
    }
    name = default_task(model.config.task).metric.name
    for split in ("validation", "selection", "test"):
        table[f"{name}, {split}"] = _measured(model, data, split)
    retrain = f"ssmith train {RECIPE} --seed {done.settings['seed']} --out DIR"
    table["how to retrain"] = f"`{retrain}` with the `{RECIPE}` in this directory"
    facts = {"title": recipe.title, "text": list(recipe.notes), "table": table}
    return api.save(
        model,
        path,
        overwrite=overwrite,
        facts=facts,
        extra_files={RECIPE: recipe.to_json(), "history.json": to_json(dataclasses.asdict(done))},
    )


def _measured(model: SequenceModel, data: SequenceData, split: str) -> str:
    if split not in data.splits:
        return "not measured: the data has no such split"
    return api.evaluate(model, data.split(split)).text


def _validator(data: SequenceData) -> Callable[[nn.Module], tuple[float, float]]:
    part = data.split("validation")
    task = default_task(data.task)
    # Accuracy moves in steps of one sequence; the loss decides between equal ones.
    finer = TASKS["cross-entropy"] if data.task == "classification" else task

    def validate(model: nn.Module) -> tuple[float, float]:
        outputs = predict(model, part)
        first, second = (
            item.metric.value(item.of_outputs(outputs, part.y)) for item in (task, finer)
        )
        return (first if task.metric.higher_is_better else -first, -second)

    return validate
