"""``ssmith train``: a model from a recipe, or from data alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmith.cli import flags
from ssmith.cli.generated import whole
from ssmith.cli.output import Output
from ssmith.cli.recipe import given_settings
from ssmith.core.errors import InputError

if TYPE_CHECKING:
    from ssmith.core.progress import Progress
    from ssmith.jobs.train import Recipe, Trained, TrainingRows


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "train",
        about="train a model from a recipe, or from data alone",
        example="ssmith train --data plant.csv --sequence machine --time ts --label state "
        "--group plant --task classification --out model",
        run=run,
        kept=kept,
    )
    command.free = True
    command.positional(
        "RECIPE", "data, model and settings, as with --recipe", kind=Path, required=False
    )
    command.out("directory for the model")
    command.add(
        "--seed",
        "of initial values, order and dropout (default: 0)",
        kind=whole,
        metavar="N",
        default=0,
    )
    command.add(
        "--start",
        "go on from a trained model, e.g. with `hankel` in the recipe's fit to make it reducible "
        "before a cut (sequence models)",
        metavar="MODEL",
    )
    command.add("--device", "cpu, cuda or cuda:N (default: cpu)", default="cpu")
    command.add(
        "--checkpoint",
        "written after each epoch, or every few minutes for a language model; training goes on "
        "from it if it is there",
        kind=Path,
        in_recipe=False,
    )
    command.settings(
        "ssmith.jobs.train.recipe:Recipe", ("data", "own_metric", "own_lower_is_better")
    )
    command.group("recordings", "what is in the columns, and how they become rows")
    command.settings("ssmith.core.preparation:PrepareConfig", under="prepare", called=flags.PREPARE)
    command.group("decisions", "fitted on the validation rows, and kept with the model")
    command.settings(
        "ssmith.evaluation.wishes:DecisionConfig", ("positive", "recall", "false_alarms"),
        under="decide",
    )  # fmt: skip
    command.group("model", "what is chosen from the data unless it is said, without a recipe")
    command.settings("ssmith.jobs.train.choice:ChoiceConfig", under="choice")


EMBEDDED = "embedded:"
"""What named data begins with, which is taken as it is."""


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted training leaves."""
    if arguments.checkpoint is None or not arguments.checkpoint.exists():
        return "nothing was kept; with --checkpoint FILE a training can go on"
    return f"what was done is kept in {arguments.checkpoint}; run the same command again to go on"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Train and save."""
    from ssmith import api
    from ssmith.core.directories import refuse_existing
    from ssmith.core.files import read_json
    from ssmith.jobs.device import find_device
    from ssmith.jobs.train import CURVE, save_trained, train

    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    start = None if arguments.start is None else api.load_sequence_model(arguments.start)
    with output.progress() as progress:
        recipe, rows = _recipe(arguments, progress)
        findings = () if rows is None else rows.findings
        trained = train(
            recipe,
            rows=rows,
            seed=arguments.seed,
            start=start,
            device=find_device(arguments.device),
            checkpoint=arguments.checkpoint,
            progress=progress,
        )
    path = save_trained(trained, arguments.out, overwrite=arguments.overwrite)
    training = trained.training
    document: dict[str, Any] = {
        "model": str(path),
        "steps": training.steps,
        "best_step": training.best_step,
    }
    if recipe.kind == "language":
        document["test"] = read_json(path / CURVE)["test"]
        found = document["test"]["bits_per_byte"]
        ends = (found["low"], found["high"])
        between = "" if None in ends else " [{:.4f}, {:.4f}]".format(*ends)
        output.line(f"bits per byte, test: {found['value']:.4f}{between}")
    else:
        epochs = len(training.looks)
        best = training.best_step * epochs // training.steps
        document |= {"best_epoch": best, "epochs": epochs}
        own = recipe.own()
        output.line(f"best epoch {best} of {epochs}{'' if own is None else f', by {own.said}'}")
        document["validation"] = _quality(trained, output)
    output.findings(findings)
    output.result(document)
    output.line(f"model: {path}")
    return 0


def _quality(trained: Trained, output: Output) -> dict[str, Any]:
    """Say how good a sequence model is on the rows that chose its epoch, beside a naive answer."""
    from ssmith import api
    from ssmith.core.sequences import SequenceData
    from ssmith.jobs.train import measured

    data = trained.data
    assert isinstance(data, SequenceData)
    size = trained.rows_at_once
    found = api.evaluate(trained.model, data.split("validation"), batch_size=size)
    output.line(f"validation, {found}")
    if found.naive is not None:
        output.line(f"{found.naive.answer}: {found.naive.value:.4g}")
    others = measured(trained.model, data, "validation", trained.recipe.own(), batch_size=size)
    for item in others:
        output.line(f"{item.name}: {item.text}")
    output.findings(found.findings())
    return {**found.describe(), "measures": [item.as_dict() for item in others]}


def _recipe(
    arguments: argparse.Namespace, progress: Progress
) -> tuple[Recipe, TrainingRows | None]:
    """Return the recipe that was given, or one that is chosen for data, which is read for it."""
    from dataclasses import fields, replace

    from ssmith.core.settings import from_mapping
    from ssmith.jobs.train import ChoiceConfig, Recipe, check_wish, chosen_recipe, rows_for

    names = {"choice", *(item.name for item in fields(Recipe))}
    given = given_settings(arguments, names, of="a training")
    where = "the recipe" if arguments.recipe else "train"
    if "data" not in given:
        raise InputError(
            "there is neither a recipe nor data",
            allowed="RECIPE, or --data FILE with --task",
            next_step=f"for example: {arguments.spec.example}",
        )
    choice = given.pop("choice", None)
    if "model" in given or "fit" in given:
        if choice:
            raise InputError(
                f"{', '.join(choice)} with a recipe that says the model",
                allowed="these without a recipe",
                next_step="change them in the recipe, under model and fit",
            )
        return from_mapping(Recipe, given, where=where), None
    chosen = from_mapping(ChoiceConfig, choice or {}, where="choice")
    if not str(given["data"]).startswith(EMBEDDED):
        given.setdefault("prepare", {})
    plain = from_mapping(Recipe, {**given, "model": {}, "fit": {}}, where=where)
    plain.own()
    rows = rows_for(plain)
    check_wish(plain.wish(), rows.preparation)
    recipe = chosen_recipe(
        str(plain.data), rows.data, rows.preparation, chosen, seed=arguments.seed, progress=progress
    )
    said = {name: getattr(plain, name) for name in ("decide", "own_metric", "own_lower_is_better")}
    return replace(recipe, **said), rows
