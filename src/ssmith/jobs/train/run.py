"""Train what a recipe says: a sequence model, or a language model that reads bytes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssmith import api, data
from ssmith.core.errors import InputError
from ssmith.core.findings import Finding
from ssmith.core.launch import refuse_processes
from ssmith.core.preparation import Preparation
from ssmith.core.progress import Progress, silent
from ssmith.core.sequences import SequenceData
from ssmith.core.settings import to_mapping
from ssmith.core.text import Text, TokenStream
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation import TASKS, OwnMetric, default_task, in_own_units, predict
from ssmith.evaluation.metrics import Outcomes
from ssmith.evaluation.perplexity import bits, window_losses
from ssmith.families import SequenceModel, TaskModel, model_digest
from ssmith.families.hf import accelerate_, engine, new_language_model, restore_
from ssmith.jobs.train.promises import check_wish, with_promises
from ssmith.jobs.train.recipe import Recipe, Texts
from ssmith.recordings import prepare
from ssmith.tune.training import FitConfig, Training, fit, fit_language_
from ssmith.tune.training.checkpoint import check_place

_VALIDATION_WINDOWS = 64


@dataclass(frozen=True, kw_only=True)
class LanguageData:
    """The texts of one training."""

    train: TokenStream
    held_out: Text
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """The data of a sequence model, how it was made of recordings, and what to know of it."""

    data: SequenceData
    preparation: Preparation | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model and how it came to be.

    The model is in evaluation mode, on the CPU, without the engine; ``paths`` say which paths of
    the engine ran.
    """

    model: nn.Module
    recipe: Recipe
    seed: int
    training: Training
    data: SequenceData | LanguageData
    paths: tuple[str, ...] = ()

    @property
    def rows_at_once(self) -> int:
        """How many rows of a sequence model a step of the training held, and no judging exceeds."""
        return self.recipe.fit_config(self.seed).batch_size


def train(
    recipe: Recipe,
    *,
    seed: int = 0,
    start: SequenceModel | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    rows: TrainingRows | None = None,
    progress: Progress = silent,
) -> Trained:
    """Train a model; the same recipe and seed give the same weights on the same machine.

    For a sequence model the validation split stops the training and picks the epoch, by the
    recipe's own metric if it has one; a language model has the weights of its last step. Selection
    and test are not read.

    Args:
        recipe: data, model and settings.
        seed: initial values, order and dropout are derived from it.
        start: a trained sequence model to go on from, e.g. to make it reducible before a cut; it
            is not changed. Its weights take the place of initial values, its settings of the
            recipe's.
        device: where to train; the model comes back on the CPU.
        checkpoint: file to resume from, written after each epoch, or every few minutes for a
            language model.
        rows: what the recipe's data holds, if it was read already.
        progress: told after each step.

    Returns:
        The model, and what happened.

    Raises:
        InputError: if the recipe is not allowed, or a language model is to start from another.
        UnsupportedError: if a launcher started several processes.
    """
    if checkpoint is not None:
        check_place(checkpoint)
    refuse_processes("training from a recipe")
    if recipe.kind == "language":
        if start is not None:
            raise InputError(
                "a language model is trained from its recipe alone",
                allowed="a start with the recipe of a sequence model",
            )
        return _train_language(recipe, seed, torch.device(device), checkpoint, progress)
    read = rows or rows_for(recipe)
    loaded = read.data
    check_wish(recipe.wish(), read.preparation)
    config = recipe.fit_config(seed)
    model = recipe.new_model(loaded, seed) if start is None else copy.deepcopy(start)
    model.preparation = read.preparation
    origin = {} if start is None else {"start": model_digest(start)}
    said = to_mapping(model.size) if isinstance(model, TaskModel) else model.config.as_dict()
    with engine(model) if isinstance(model, TaskModel) else nullcontext():
        training = fit(
            model.to(torch.device(device)),
            loaded,
            config,
            _validator(loaded, recipe.own(), config),
            checkpoint=checkpoint,
            facts={"model": said, **origin, **recipe.own_facts()},
            progress=progress,
        )
    model = model.to("cpu").eval()
    if read.preparation is not None:
        part = loaded.split("validation")
        model.preparation = with_promises(
            model, part, read.preparation, recipe.wish(), batch_size=config.batch_size
        )
    return Trained(model=model, recipe=recipe, seed=seed, training=training, data=loaded)


def rows_for(recipe: Recipe) -> TrainingRows:
    """Read the data of a sequence model's recipe."""
    if recipe.prepare is None:
        return TrainingRows(data=api.load_data(str(recipe.data), needs=("train", "validation")))
    found = prepare(str(recipe.data), recipe.prepare_config())
    return TrainingRows(data=found.data, preparation=found.preparation, findings=found.findings)


def _train_language(
    recipe: Recipe, seed: int, device: torch.device, checkpoint: Path | None, progress: Progress
) -> Trained:
    size, config = recipe.size(), recipe.language_fit(seed)
    texts = language_data(recipe.texts())
    model = new_language_model(size, seed=seed).to(device)
    engine = accelerate_(model)
    windows = validation_windows(texts.held_out, config.length)

    def validate(model: nn.Module) -> float:
        losses = window_losses(model, windows, batch_size=config.batch_size)
        return bits(float(losses.sum())) / windows.scored

    training = fit_language_(
        model,
        texts.train.ids,
        config,
        validate,
        checkpoint=checkpoint,
        facts={"data": texts.facts, "model": to_mapping(size)},
        progress=progress,
    )
    restore_(model)
    paths = tuple(f"{item.op}: {item.backend} ({item.reason})" for item in engine.paths)
    model = model.to("cpu").eval()
    return Trained(
        model=model, recipe=recipe, seed=seed, training=training, data=texts, paths=paths
    )


def language_data(texts: Texts) -> LanguageData:
    """Read the texts of a recipe; none of the training text is in the held-out one."""
    if texts.text:
        text = data.load_text(texts.text)
        held_out = data.load_text(texts.held_out) if texts.held_out else text
        train = text.split("all" if texts.held_out else "train")
        about = {"name": text.name, "source": text.source, "sha256": text.sha256, **text.details}
    else:
        spec = texts.held_out or data.STDLIB_SPEC
        held_out = data.load_text(spec)
        read = data.read_packages(texts.packages, size=texts.bytes, avoid=data.read_source(spec))
        train = data.stream_of(read.items, data.ByteTokenizer())
        about = {
            "name": read.name,
            "source": read.source,
            "sha256": read.sha256,
            **read.details,
            "tokenizer": "bytes",
            "between_documents": "id 0",
        }
    facts = {
        "train": {**about, "tokens": len(train)},
        "held_out": {"name": held_out.name, "source": held_out.source, "sha256": held_out.sha256},
    }
    return LanguageData(train=train, held_out=held_out, facts=facts)


def validation_windows(text: Text, length: int) -> TokenWindows:
    """Return the windows training is watched on: drawn once, the same in every run."""
    stream = text.split("validation")
    fitting = max(1, min(_VALIDATION_WINDOWS, len(stream) - length + 1))
    return text.sample(fitting, min(length, len(stream)), split="validation")


def _validator(
    loaded: SequenceData, own: OwnMetric | None, config: FitConfig
) -> Callable[[nn.Module], tuple[float, float]]:
    part = loaded.split("validation")
    weights = 1 / part.y.bincount().double()[part.y] if config.balance > 0 else None
    task = default_task(loaded.task)
    # Accuracy moves in steps of one sequence; the loss decides between equal ones.
    finer = TASKS["cross-entropy"] if loaded.task == "classification" else task

    def validate(model: nn.Module) -> tuple[float, float]:
        # No more at once than a step of the training holds.
        outputs = predict(model, part, config.batch_size)
        seen = [item.of_outputs(outputs, part.y) for item in (task, finer)]
        if weights is not None:
            seen = [Outcomes(numerator=item.numerator * weights, weight=weights) for item in seen]
        first, second = (
            item.metric.value(found) for item, found in zip((task, finer), seen, strict=True)
        )
        if own is not None:
            return (own.score(own(*in_own_units(model, outputs, part.y))), -second)
        return (first if task.metric.higher_is_better else -first, -second)

    return validate
