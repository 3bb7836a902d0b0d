"""Train the language models (hours; goes on after a kill) and put them into the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from ssmith import api
from ssmith.artefact import WEIGHTS
from ssmith.core.files import read_json
from ssmith.jobs.train import CURVE, RECIPE, Recipe, save_trained, train
from ssmith.jobs.train.card import curve_files

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes" / "language"
EMBEDDED = ROOT / "src" / "ssmith" / "artefact" / "embedded"
LARGEST = 12_000_000


def trained(path: Path, cache: Path, seed: int) -> Path:
    """Train a recipe, or go on with it; return the directory of the model in float32."""
    place = cache / path.stem
    if not (place / "model").is_dir():
        done = train(
            Recipe.load(path), seed=seed, checkpoint=place / "last.safetensors", progress=told
        )
        save_trained(done, place / "model")
    return place / "model"


def told(stage: str, done: int, total: int, note: str = "") -> None:
    if done % 20 == 0 or done == total:
        print(f"{stage} {done}/{total} {note}", file=sys.stderr, flush=True)


def ship(path: Path, cache: Path, target: Path, seed: int) -> Path:
    """Put a model into the package, in bfloat16 if it would be too large in float32."""
    source = trained(path, cache, seed)
    model, facts = api.load(source), read_json(source / CURVE)["card"]
    facts["table"] = dict(facts["table"])
    if (source / WEIGHTS).stat().st_size > LARGEST:
        before = model.state_dict()
        model = model.to(torch.bfloat16)
        lost = max(
            float((before[name].float() - item.float()).abs().max())
            for name, item in model.state_dict().items()
        )
        facts["text"].append(
            f"Trained in float32; shipped in bfloat16, no weight changed by more than {lost:.1e}."
        )
        facts["table"] = {**facts["table"], **measured_as_shipped(model, path)}
    curve = read_json(source / CURVE)
    plots = curve_files(curve)
    files = {name: (source / name).read_text(encoding="utf-8") for name in (RECIPE, CURVE)}
    files |= plots
    return api.save(model, target / path.stem, overwrite=True, facts=facts, extra_files=files)


def measured_as_shipped(model: torch.nn.Module, path: Path) -> dict[str, str]:
    """Measure a model once more with the weights that ship, on the same windows."""
    recipe = Recipe.load(path)
    text = api.load_text(recipe.texts().held_out or "stdlib:", model)
    config = recipe.language_fit(0)
    windows = text.windows(config.length)
    found = api.evaluate(model, windows, batch_size=config.batch_size)
    return {"bits per byte, as shipped in bfloat16": found.also["bits per byte"].text}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", type=Path, default=RECIPES)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "language")
    parser.add_argument("--to", type=Path, default=EMBEDDED)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for path in sorted(given.recipes.glob("*.json")):
        place = ship(path, given.cache, given.to, given.seed)
        failed = [check for check in api.verify(place) if not check.passed]
        if failed:
            raise SystemExit(f"{path.stem}: {failed}")
        print(place)


if __name__ == "__main__":
    main()
