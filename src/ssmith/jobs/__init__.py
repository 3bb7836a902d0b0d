"""Whole jobs made of the spine's steps: train a model, pilot a cut."""

from ssmith.jobs.demo import demo
from ssmith.jobs.pilot import PilotConfig, pilot
from ssmith.jobs.train import Recipe, train

__all__ = ["PilotConfig", "Recipe", "demo", "pilot", "train"]
