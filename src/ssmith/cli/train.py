"""``ssmith train``: a model from a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ssmith.cli import flags
from ssmith.cli.generated import whole
from ssmith.cli.output import Output
from ssmith.cli.recipe import config_of


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    command = flags.Command(
        subparsers,
        "train",
        about="train a model from a recipe",
        example="ssmith train recipe.json --seed 0 --checkpoint last.safetensors --out model",
        run=run,
        kept=kept,
    )
    command.free = True
    command.positional("RECIPE", "data, model and settings, as with --recipe", kind=Path)
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
    from ssmith.jobs.train import CURVE, Recipe, save_trained, train

    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    recipe = config_of(Recipe, arguments)
    start = None if arguments.start is None else api.load_sequence_model(arguments.start)
    with output.progress() as progress:
        trained = train(
            recipe,
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
        output.line(f"best epoch {best} of {epochs}")
    output.result(document)
    output.line(f"model: {path}")
    return 0
