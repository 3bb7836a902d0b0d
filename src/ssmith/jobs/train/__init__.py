"""Train a model from a recipe: one file says everything but the seed."""

from ssmith.jobs.train.card import CURVE, RECIPE, save_trained
from ssmith.jobs.train.recipe import Recipe
from ssmith.jobs.train.run import Trained, train

__all__ = ["CURVE", "RECIPE", "Recipe", "Trained", "save_trained", "train"]
