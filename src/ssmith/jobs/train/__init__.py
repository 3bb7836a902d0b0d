"""Train a model from a recipe: one file says everything but the seed."""

from ssmith.jobs.train.card import CURVE, RECIPE, save_trained
from ssmith.jobs.train.choice import ChoiceConfig, chosen_recipe
from ssmith.jobs.train.measures import measured
from ssmith.jobs.train.promises import check_wish
from ssmith.jobs.train.recipe import Recipe
from ssmith.jobs.train.run import Trained, TrainingRows, rows_for, train

__all__ = [
    "CURVE",
    "RECIPE",
    "ChoiceConfig",
    "Recipe",
    "Trained",
    "TrainingRows",
    "check_wish",
    "chosen_recipe",
    "measured",
    "rows_for",
    "save_trained",
    "train",
]
