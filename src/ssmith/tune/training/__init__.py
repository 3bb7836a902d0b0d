"""Training: one loop with exact checkpoints, for whole models, adapters and heads."""

from ssmith.tune.training.checkpoint import averaged
from ssmith.tune.training.config import FitConfig, LanguageFitConfig, TrainingConfig
from ssmith.tune.training.loop import Training
from ssmith.tune.training.objectives import (
    AnswerObjective,
    LanguageObjective,
    Objective,
    row_answers,
    row_measures,
    rows_of,
)
from ssmith.tune.training.processes import join_processes
from ssmith.tune.training.rates import DATA_SETS, helped_by_muon, starting_rate
from ssmith.tune.training.runs import Own, RateGroup, Work, fit, fit_language_, train_

__all__ = [
    "DATA_SETS",
    "AnswerObjective",
    "FitConfig",
    "LanguageFitConfig",
    "LanguageObjective",
    "Objective",
    "Own",
    "RateGroup",
    "Training",
    "TrainingConfig",
    "Work",
    "averaged",
    "fit",
    "fit_language_",
    "helped_by_muon",
    "join_processes",
    "row_answers",
    "row_measures",
    "rows_of",
    "starting_rate",
    "train_",
]
