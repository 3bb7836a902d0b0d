"""What a trained model may promise: intervals of its numbers, fitted on the validation rows."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ssmith.core.preparation import FITTED_ON, Preparation
from ssmith.core.sequences import Sequences
from ssmith.evaluation import conformal, predict
from ssmith.families import model_digest

LEVELS = (0.8, 0.9, 0.95)


def with_intervals(model: nn.Module, part: Sequences, preparation: Preparation) -> Preparation:
    """Return a preparation with the half widths of intervals, as far as there are rows for them.

    The validation rows also stopped the training, which makes widths a little too small; what the
    test rows show stands beside each promise when they are answered.
    """
    levels = [level for level in LEVELS if len(part) >= conformal.least_rows(level)]
    if not preparation.targets or not levels:
        return preparation
    outputs = preparation.targets_back(predict(model, part).numpy())
    truth = preparation.targets_back(part.y.reshape(len(part), -1).numpy())
    return replace(
        preparation,
        residuals={f"{level:g}": conformal.half_widths(outputs, truth, level) for level in levels},
        facts={**preparation.facts, FITTED_ON: model_digest(model)},
    )
