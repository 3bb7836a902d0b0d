"""Training of adapters and heads on transformers' Trainer."""

from ssmith.tune.training.answer_distillation import AnswerDistillation
from ssmith.tune.training.config import TrainingConfig
from ssmith.tune.training.objectives import (
    AnswerObjective,
    Distillation,
    LanguageObjective,
    Objective,
    rows_of,
)
from ssmith.tune.training.rates import DATA_SETS, Rate, starting_rate
from ssmith.tune.training.run import is_main_process, train_
from ssmith.tune.training.work import Group, Listener, Training, Work

__all__ = [
    "DATA_SETS",
    "AnswerDistillation",
    "AnswerObjective",
    "Distillation",
    "Group",
    "LanguageObjective",
    "Listener",
    "Objective",
    "Rate",
    "Training",
    "TrainingConfig",
    "Work",
    "is_main_process",
    "rows_of",
    "starting_rate",
    "train_",
]
