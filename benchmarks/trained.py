"""Reference models at several training seeds: trained once, kept under .cache/."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import torch

from ssmith import api
from ssmith.families import SequenceModel
from ssmith.jobs.train import Recipe, save_trained, train

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "trained"
BASES = ROOT / "benchmarks" / "bases"
"""Of small models that results are about, and that no recipe makes to the bit elsewhere."""
RECIPES = ROOT / "recipes" / "reference"


def names() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.json"))


def recipe_of(name: str) -> Recipe:
    return Recipe.load(RECIPES / f"{name}.json")


def location(name: str, seed: int) -> Path:
    """Return where a trained model is kept: a changed recipe is another model."""
    digest = hashlib.sha256(recipe_of(name).to_json().encode()).hexdigest()[:10]
    return CACHE / f"{name}-{digest}" / f"seed-{seed}"


def trained(name: str, seed: int) -> SequenceModel:
    """Return a reference model, training it if this recipe was not trained with this seed yet."""
    recipe, path = recipe_of(name), location(name, seed)
    if not path.exists():

        def progress(stage: str, done: int, total: int, note: str = "") -> None:
            if done % 200 == 0:
                print(f"{name} seed {seed}: {stage} {done}/{total} {note}", file=sys.stderr)

        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = path.parent / f"seed-{seed}.checkpoint"
        save_trained(train(recipe, seed=seed, checkpoint=checkpoint, progress=progress), path)
        checkpoint.unlink(missing_ok=True)
    return api.load(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train reference models at several seeds.")
    parser.add_argument("names", nargs="+")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for seed in map(int, options.seeds.split(",")):
        for name in options.names:
            trained(name, seed)
