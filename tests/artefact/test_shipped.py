"""What ships is whole, and was trained from the recipes that stand in the repository."""

from pathlib import Path

import pytest

from ssmith.artefact import embedded_names, load, locate, verify
from ssmith.jobs.train import RECIPE, Recipe

RECIPES = Path(__file__).parents[2] / "recipes" / "reference"


def test_every_recipe_has_its_model():
    assert embedded_names() == tuple(sorted(path.stem for path in RECIPES.glob("*.json")))


@pytest.mark.parametrize("name", embedded_names())
def test_a_shipped_model_is_what_its_card_says(name):
    spec = f"embedded:{name}"
    assert all(check.passed for check in verify(spec))
    assert Recipe.load(locate(spec) / RECIPE) == Recipe.load(RECIPES / f"{name}.json")
    card = (locate(spec) / "README.md").read_text(encoding="utf-8")
    for split in ("validation", "selection", "test"):
        assert f"accuracy, {split}" in card
    parameters = sum(item.numel() for item in load(spec).parameters())
    assert f"| parameters | {parameters:,} |" in card
