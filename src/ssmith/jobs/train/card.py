"""Save a trained model with its recipe, its history, and a card that says how good it is."""

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
from ssmith.core.sequences import SequenceData
from ssmith.core.settings import to_mapping
from ssmith.core.text import Text
from ssmith.evaluation import Estimate, default_task
from ssmith.evaluation.perplexity import bits
from ssmith.jobs.train.measures import measured
from ssmith.jobs.train.run import LanguageData, Trained
from ssmith.report.plot_training import language_curve
from ssmith.tune.training import averaged

RECIPE = "recipe.json"
CURVE = "curve.json"
HISTORY = "history.json"


def save_trained(trained: Trained, path: Path, *, overwrite: bool = False) -> Path:
    """Save a trained model with its recipe and a card that says how good it is.

    Quality is measured on the held-out splits of the data; test is read here for the first time.
    """
    if isinstance(trained.data, LanguageData):
        facts, files = _of_language(trained, trained.data)
    else:
        facts, files = _of_sequences(trained, trained.data)
    retrain = f"ssmith train {RECIPE} --seed {trained.seed} --out DIR"
    facts["table"]["how to retrain"] = f"`{retrain}` with the `{RECIPE}` in this directory"
    if CURVE in files:
        # Pairs: a JSON object would lose their order.
        card = {**facts, "table": list(facts["table"].items())}
        files[CURVE] = {"card": card, **files[CURVE]}
    texts = {name: item if isinstance(item, str) else to_json(item) for name, item in files.items()}
    return api.save(
        trained.model,
        path,
        overwrite=overwrite,
        facts=facts,
        extra_files={RECIPE: trained.recipe.to_json(), **texts},
    )


def _of_sequences(trained: Trained, data: SequenceData) -> tuple[dict[str, Any], dict[str, Any]]:
    training = trained.training
    per_epoch = training.steps // len(training.looks)
    table = {
        "data": f"{data.name}: {data.source}",
        "data sha256": f"`{data.sha256}`",
        "splits": ", ".join(f"{name} {len(part)}" for name, part in data.splits.items()),
        "seed": str(trained.seed),
        "best epoch": f"{training.best_step // per_epoch} of {len(training.looks)}",
    }
    name = default_task(data.task).metric.name
    for split in ("validation", "selection", "test"):
        table[f"{name}, {split}"] = _measured(trained, data, split)
    split = "test" if "test" in data.splits else "validation"
    found = measured(
        trained.model, data, split, trained.recipe.own(), batch_size=trained.rows_at_once
    )
    table |= {f"{item.name}, {split}": item.text for item in found}
    recipe = trained.recipe
    # How long it took is no property of the model: the same training gives the same bytes.
    timed = ("seconds", "tokens_per_second")
    history = {name: value for name, value in to_mapping(training).items() if name not in timed}
    return {"title": recipe.title, "text": list(recipe.notes), "table": table}, {HISTORY: history}


def _measured(trained: Trained, data: SequenceData, split: str) -> str:
    if split not in data.splits:
        return "not measured: the data has no such split"
    return api.evaluate(trained.model, data.split(split), batch_size=trained.rows_at_once).text


def _of_language(trained: Trained, data: LanguageData) -> tuple[dict[str, Any], dict[str, Any]]:
    config, training = trained.recipe.language_fit(trained.seed), trained.training
    windows = data.held_out.windows(config.length)
    found = api.evaluate(trained.model, windows, batch_size=config.batch_size)
    rivals = compressors(data.held_out)
    looks = [(look.step, look.validation["bits_per_token"]) for look in training.looks]
    steps = {"train": averaged(training.losses), "validation": looks}
    plots = curve_files(steps)
    shown = "![The curve of its training](curve.svg)\n\n" if plots else ""
    note = f"{shown}The curve of its training stands in `{CURVE}`."
    curve = {
        "settings": to_mapping(config),
        "data": data.facts,
        **steps,
        "seconds": training.seconds,
        "test": _test(found),
        "compressors_bits_per_byte": rivals,
        "paths": list(trained.paths),
    }
    facts = {
        "title": trained.recipe.title or "Language model",
        "text": [*trained.recipe.notes, note],
        "table": _table(trained, data, found, rivals),
    }
    return facts, {CURVE: curve, **plots}


def curve_files(curve: Mapping[str, Any]) -> dict[str, str]:
    """Return the plot of a language model's training and its data, by file name."""
    train = [(row["step"], bits(row["loss"])) for row in curve["train"]]
    try:
        plot = language_curve(train, [(int(step), value) for step, value in curve["validation"]])
    except MissingExtraError:
        # The numbers stand in the curve's file all the same.
        return {}
    return {"curve.svg": plot.svg, "curve.csv": plot.csv}


def compressors(text: Text, split: str = "test") -> dict[str, float | str]:
    """Return the bits per byte of general compressors on the bytes of a split."""
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
    trained: Trained, data: LanguageData, found: Estimate, rivals: dict[str, float | str]
) -> dict[str, str]:
    config, size = trained.recipe.language_fit(trained.seed), trained.recipe.size()
    per_byte, read = found.also.get("bits per byte"), data.facts["train"]
    parameters = sum(item.numel() for item in trained.model.parameters())
    return {
        "model": f"{size.said}, bytes as tokens",
        "parameters": f"{parameters:,}",
        "trained on": f"{read['source']}; {read['tokens']:,} tokens",
        "sha256 of it": f"`{read['sha256']}`",
        "seen": f"{config.tokens:,} tokens in {config.steps:,} steps of "
        f"{config.batch_size} × {config.length}",
        "measured on": f"{data.held_out.source}: {found.place}",
        "sha256 of all its splits": f"`{data.held_out.sha256}`",
        "bits per byte": "not known" if per_byte is None else per_byte.text,
        "perplexity per token": found.text,
        **{
            f"bits per byte, {name}": value if isinstance(value, str) else f"{value:.4f}"
            for name, value in rivals.items()
        },
        "seed": str(trained.seed),
        "time in training steps": f"{trained.training.seconds / 60:.0f} minutes, on a machine that "
        "did other work as well",
        "machine": f"{versions()['machine']}, {torch.get_num_threads()} threads",
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
        "windows": {} if found.rows is None else to_mapping(found.rows),
        "paths": list(found.paths),
    }
