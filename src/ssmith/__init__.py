"""Prune, tune and ship state space models, with a receipt for every step."""

from importlib.metadata import version

from ssmith import criteria
from ssmith.api import (
    compare,
    decide,
    inspect,
    load,
    load_data,
    measure,
    parity,
    plan,
    prune_,
    save,
    score,
    verify,
)
from ssmith.core.budget import Budget
from ssmith.core.errors import SsmithError
from ssmith.core.plan import Plan
from ssmith.core.receipt import Receipt
from ssmith.core.scores import Scores
from ssmith.jobs import PilotConfig, Recipe, pilot, train
from ssmith.report import write_report

__version__ = version("ssmith")

__all__ = [
    "Budget",
    "PilotConfig",
    "Plan",
    "Receipt",
    "Recipe",
    "Scores",
    "SsmithError",
    "__version__",
    "compare",
    "criteria",
    "decide",
    "inspect",
    "load",
    "load_data",
    "measure",
    "parity",
    "pilot",
    "plan",
    "prune_",
    "save",
    "score",
    "train",
    "verify",
    "write_report",
]
