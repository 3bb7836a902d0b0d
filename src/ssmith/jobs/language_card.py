"""Save a trained language model with its recipe, its curve, and a card that says how good it is."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ssmith import api
from ssmith.core.errors import MissingExtraError
from ssmith.core.files import to_json
from ssmith.core.optional import require
from ssmith.core.receipt import versions
from ssmith.core.text import Text
from ssmith.evaluation import Estimate
from ssmith.evaluation.perplexity import bits
from ssmith.jobs.train_language import RECIPE, LanguageRecipe, Trained
from ssmith.report.plot_training import language_curve

CURVE = "curve.json"


def save_trained_language(
    trained: Trained, recipe: LanguageRecipe, path: Path, *, overwrite: bool = False
) -> Path:
    """Save a language model as a Hugging Face directory with card, recipe and curve.

    The test split of the held-out text is read here for the first time.

    Args:
        trained: as `train_language` returned it.
        recipe: what it was trained from.
        path: the directory to make.
        overwrite: replace what is there.

    Returns:
        The directory.
    """
    settings = trained.fit.settings
    windows = trained.data.held_out.windows(settings["length"])
    found = api.evaluate(trained.model, windows, batch_size=settings["batch_size"])
    rivals = compressors(trained.data.held_out)
    table = _table(trained, recipe, found, rivals)
    steps = {"train": trained.fit.curve(), "validation": trained.fit.validation}
    plots = curve_files(steps)
    facts = {
        "title": recipe.title or "Mamba language model",
        "text": [*recipe.notes, curve_note(plots)],
        "table": table,
    }
    curve = {
        # Pairs: a JSON object would lose their order.
        "card": {**facts, "table": list(table.items())},
        "settings": settings,
        "data": trained.data.facts,
        **steps,
        "seconds": trained.fit.seconds,
        "test": _test(found),
        "compressors_bits_per_byte": rivals,
        "paths": [f"{item.op}: {item.backend} ({item.reason})" for item in trained.engine.paths],
    }
    return api.save(
        trained.model,
        path,
        overwrite=overwrite,
        facts=facts,
        extra_files={RECIPE: recipe.to_json(), CURVE: to_json(curve), **plots},
    )


def curve_files(curve: Mapping[str, Any]) -> dict[str, str]:
    """Return the plot of a training and its data, by file name.

    Args:
        curve: its ``train`` and ``validation``, as they stand in ``curve.json``.

    Returns:
        Both files; none where matplotlib is not installed.
    """
    train = [(row["step"], bits(row["loss"])) for row in curve["train"]]
    try:
        plot = language_curve(train, [(int(step), value) for step, value in curve["validation"]])
    except MissingExtraError:
        # The numbers stand in the curve's file all the same.
        return {}
    return {"curve.svg": plot.svg, "curve.csv": plot.csv}


def curve_note(plots: Mapping[str, str]) -> str:
    """Return what a card says about the curve of a training."""
    shown = "![The curve of its training](curve.svg)\n\n" if plots else ""
    return f"{shown}The curve of its training stands in `{CURVE}`."


def compressors(text: Text, split: str = "test") -> dict[str, float | str]:
    """Return the bits per byte of general compressors on the bytes of a split.

    Args:
        text: of byte tokens.
        split: which.

    Returns:
        Compressor → bits per byte, or why it could not be run.
    """
    content = text.split(split).ids.numpy().tobytes()
    made: dict[str, int | str] = {
        "gzip -9": len(gzip.compress(content, 9)),
        "bzip2 -9": len(bz2.compress(content, 9)),
        "xz -9e": len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)),
        "zstd -19": _zstd(content),
    }
    return {
        name: size if isinstance(size, str) else 8 * size / len(content)
        for name, size in made.items()
    }


def _zstd(content: bytes) -> int | str:
    try:
        package = require("zstandard", extra="dev", purpose="comparing with zstd")
    except MissingExtraError:
        return "not measured: the package zstandard is not installed"
    return len(package.ZstdCompressor(level=19).compress(content))


def _table(
    trained: Trained,
    recipe: LanguageRecipe,
    found: Estimate,
    rivals: dict[str, float | str],
) -> dict[str, str]:
    settings, data = trained.fit.settings, trained.data
    size, per_byte = recipe.size(), found.also.get("bits per byte")
    steps, rows, length = (settings[name] for name in ("steps", "batch_size", "length"))
    parameters = sum(item.numel() for item in trained.model.parameters())
    retrain = f"ssmith train {RECIPE} --seed {settings['seed']} --out DIR"
    return {
        "model": f"Mamba, width {size.width}, {size.layers} layers, {size.states} states per "
        "channel, bytes as tokens",
        "parameters": f"{parameters:,}",
        "trained on": f"{data.facts['train']['source']}; {data.facts['train']['tokens']:,} tokens",
        "sha256 of it": f"`{data.facts['train']['sha256']}`",
        "seen": f"{steps * rows * length:,} tokens in {steps:,} steps of {rows} × {length}",
        "measured on": f"{data.held_out.source}: {found.place}",
        "sha256 of all its splits": f"`{data.held_out.sha256}`",
        "bits per byte": "not known" if per_byte is None else per_byte.text,
        "perplexity per token": found.text,
        **{f"bits per byte, {name}": _number(value) for name, value in rivals.items()},
        "seed": str(settings["seed"]),
        "time in training steps": f"{trained.fit.seconds / 60:.0f} minutes, on a machine that did "
        "other work as well",
        "machine": f"{versions()['machine']}, {torch.get_num_threads()} threads",
        "how to retrain": f"`{retrain}` with the `{RECIPE}` in this directory",
    }


def _test(found: Estimate) -> dict[str, Any]:
    """Return what was measured on the test split, for the curve's file."""
    per_byte = found.also.get("bits per byte")
    return {
        "perplexity": found.as_dict(),
        "bits_per_byte": None if per_byte is None else per_byte.as_dict(),
        "interval": found.method,
        "level": found.level,
        "tokens": int(found.weight),
        "text_bytes": None if per_byte is None else int(per_byte.weight),
        "windows": dict(found.rows),
        "paths": list(found.paths),
    }


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4f}"
