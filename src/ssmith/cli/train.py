"""``ssmith train``: a model from a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssmith.cli import flags
from ssmith.cli.output import Output
from ssmith.core.errors import InputError
from ssmith.core.names import meant


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
    parser.add_argument(
        "--from",
        dest="start",
        metavar="MODEL",
        help="go on from a trained model, e.g. with `hankel` in the recipe's fit to make it "
        "reducible before a cut (sequence models)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="written after each epoch, or every few minutes for a language model; training goes "
        "on from it if it is there",
    )
    parser.set_defaults(kept=kept)


def kept(arguments: argparse.Namespace) -> str:
    """Say what an interrupted training leaves."""
    if arguments.checkpoint is None or not arguments.checkpoint.exists():
        return "nothing was kept; with --checkpoint FILE a training can go on"
    return f"what was done is kept in {arguments.checkpoint}; run the same command again to go on"


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Train and save."""
    from ssmith.core.files import read_json, refuse_existing

    refuse_existing(arguments.out, overwrite=arguments.overwrite)
    content = read_json(arguments.recipe, by_hand=True)
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind not in (None, "language"):
        raise InputError(
            f"{arguments.recipe}: kind is {kind!r}",
            allowed="'language', or no kind for a sequence model",
            next_step=meant(str(kind), ("language",)) or "leave it out for a sequence model",
        )
    return (_language if kind == "language" else _sequence)(arguments, output)


def _sequence(arguments: argparse.Namespace, output: Output) -> int:
    from ssmith import api
    from ssmith.jobs.device import find_device
    from ssmith.jobs.train import Recipe, save_trained, train

    recipe = Recipe.load(arguments.recipe)
    start = None if arguments.start is None else api.load_sequence_model(arguments.start)
    with output.progress() as progress:
        model, done = train(
            recipe,
            seed=arguments.seed,
            start=start,
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


def _language(arguments: argparse.Namespace, output: Output) -> int:
    from ssmith.core.files import read_json
    from ssmith.jobs.device import find_device
    from ssmith.jobs.language_card import CURVE, save_trained_language
    from ssmith.jobs.train_language import LanguageRecipe, train_language

    if arguments.start is not None:
        raise InputError(
            f"--from is {arguments.start}",
            allowed="--from with the recipe of a sequence model",
            next_step="train a language model from its recipe alone",
        )
    recipe = LanguageRecipe.load(arguments.recipe)
    with output.progress() as progress:
        trained = train_language(
            recipe,
            seed=arguments.seed,
            device=find_device(arguments.device),
            checkpoint=arguments.checkpoint,
            progress=progress,
        )
    path = save_trained_language(trained, recipe, arguments.out, overwrite=arguments.overwrite)
    curve = read_json(path / CURVE)
    output.result({"model": str(path), "test": curve["test"], "steps": len(trained.fit.losses)})
    bits = curve["test"]["bits_per_byte"]
    output.line(f"bits per byte, test: {bits['value']:.4f} [{bits['low']:.4f}, {bits['high']:.4f}]")
    output.line(f"model: {path}")
    return 0
