"""What ships is whole, and was trained from the recipes that stand in the repository."""

from pathlib import Path

import pytest

from ssmith.artefact import embedded_names, load, locate, verify
from ssmith.core.files import read_json
from ssmith.jobs.train import CURVE, RECIPE, Recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SERIES = tuple(sorted(path.stem for path in (RECIPES / "reference").glob("*.json")))
LANGUAGE = tuple(sorted(path.stem for path in (RECIPES / "language").glob("*.json")))
LARGEST = 12_000_000
COMPRESSORS = ("gzip -9", "bzip2 -9", "xz -9e", "zstd -19")


def test_every_recipe_has_its_model():
    assert embedded_names() == tuple(sorted((*SERIES, *LANGUAGE)))


@pytest.mark.parametrize("name", embedded_names())
def test_a_shipped_model_is_whole(name):
    assert all(check.passed for check in verify(f"embedded:{name}"))


@pytest.mark.parametrize("name", SERIES)
def test_a_shipped_model_is_what_its_card_says(name):
    spec = f"embedded:{name}"
    assert Recipe.load(locate(spec) / RECIPE) == Recipe.load(RECIPES / "reference" / f"{name}.json")
    card = (locate(spec) / "README.md").read_text(encoding="utf-8")
    for split in ("validation", "selection", "test"):
        assert f"accuracy, {split}" in card
    parameters = sum(item.numel() for item in load(spec).parameters())
    assert f"| parameters | {parameters:,} |" in card


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_shipped_language_model_is_what_its_card_says(name):
    pytest.importorskip("transformers")
    place = locate(f"embedded:{name}")
    recipe = Recipe.load(place / RECIPE)
    assert recipe == Recipe.load(RECIPES / "language" / f"{name}.json")
    assert sum(item.stat().st_size for item in place.rglob("*")) <= LARGEST
    card = (place / "README.md").read_text(encoding="utf-8")
    curve = read_json(place / CURVE)
    found = curve["test"]["bits_per_byte"]
    assert (
        f"| bits per byte | {found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]" in card
    )
    for rival in COMPRESSORS:
        assert (
            f"| bits per byte, {rival} | {curve['compressors_bits_per_byte'][rival]:.4f} |" in card
        )
    assert curve["data"]["train"]["sha256"] in card
    assert curve["data"]["held_out"]["sha256"] in card
    parameters = sum(item.numel() for item in load(place).parameters())
    assert f"| parameters | {parameters:,} |" in card
    seen = (
        curve["settings"]["steps"] * curve["settings"]["batch_size"] * curve["settings"]["length"]
    )
    assert parameters >= 3_000_000
    assert seen >= 30_000_000
