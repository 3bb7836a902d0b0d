"""``ssmith train``: a model from a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssmith.cli import flags
from ssmith.cli.output import Output


def add(subparsers: flags.Subparsers) -> None:
    """Add the command."""
    parser = flags.command(
        subparsers,
        "train",
        about="train a model from a recipe",
        example="ssmith train recipe.json --seed 0 --checkpoint last.safetensors --out model",
        run=run,
    )
    parser.add_argument("recipe", metavar="RECIPE.json", type=Path, help="data, model and settings")
    flags.add_out(parser, "directory for the model")
    flags.add_seed(parser, "initial values, order and dropout")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="written after each epoch; training goes on from it if it is there",
    )
    parser.set_defaults(kept=kept)


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted training leaves."""
    if arguments.checkpoint is None or not arguments.checkpoint.exists():
        return "nothing was kept; with --checkpoint FILE a training can go on"
    return (
        f"finished epochs are kept in {arguments.checkpoint}; run the same command again to go on"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Train and save."""
    from ssmith.core.files import refuse_existing
    from ssmith.jobs.device import find_device
    from ssmith.jobs.train import Recipe, save_trained, train

    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    recipe = Recipe.load(arguments.recipe)
    with output.progress() as progress:
        model, done = train(
            recipe,
            seed=arguments.seed,
            device=find_device(arguments.device),
            checkpoint=arguments.checkpoint,
            progress=progress,
        )
    save_trained(model, recipe, done, arguments.out, overwrite=arguments.overwrite)
    epochs = len(done.history)
    output.result({"model": str(arguments.out), "best_epoch": done.best_epoch, "epochs": epochs})
    output.line(f"best epoch {done.best_epoch} of {epochs}")
    output.line(f"model: {arguments.out}")
    return 0
