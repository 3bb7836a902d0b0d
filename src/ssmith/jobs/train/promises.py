"""What a trained model may promise: intervals and thresholds, fitted on the validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from ssmith.core.errors import InputError
from ssmith.core.preparation import FITTED_ON, Preparation
from ssmith.core.sequences import Sequences
from ssmith.evaluation import conformal, predict
from ssmith.evaluation.wishes import (
    DecisionConfig,
    anomaly_scores,
    anomaly_threshold,
    class_threshold,
)
from ssmith.families import model_digest

LEVELS = (0.8, 0.9, 0.95)


def with_promises(
    model: nn.Module,
    part: Sequences,
    preparation: Preparation,
    wish: DecisionConfig,
    *,
    batch_size: int,
) -> Preparation:
    """Return a preparation with half widths of intervals, as far as there are rows, and thresholds.

    The validation rows also stopped the training, which makes widths a little too small; what the
    test rows show stands beside each promise when they are answered.
    """
    check_wish(wish, preparation)
    outputs = predict(model, part, batch_size)
    widths: Mapping[str, tuple[float, ...]] = {}
    limits: Mapping[str, float] = {}
    if preparation.targets:
        given = preparation.targets_back(outputs.numpy())
        truth = preparation.targets_back(part.y.reshape(len(part), -1).numpy())
        levels = [level for level in LEVELS if len(part) >= conformal.least_rows(level)]
        widths = {f"{level:g}": conformal.half_widths(given, truth, level) for level in levels}
        if preparation.task == "anomaly":
            limits = anomaly_threshold(wish, anomaly_scores(given, truth, preparation))
    elif wish.positive is not None:
        single = preparation.model_task == "classification"
        wide = outputs.double()
        shares = (wide.softmax(-1) if single else wide.sigmoid()).numpy()
        limits = class_threshold(wish, preparation.classes, shares, part.y.numpy())
    if not widths and not limits:
        return preparation
    return replace(
        preparation, residuals=widths, thresholds=limits,
        facts={**preparation.facts, FITTED_ON: model_digest(model)},
    )  # fmt: skip


def check_wish(wish: DecisionConfig, preparation: Preparation | None) -> None:
    """Refuse a threshold of what has none, before anything is trained."""
    if not wish.wants_threshold:
        return
    anomalies = preparation is not None and preparation.task == "anomaly"
    classes = () if preparation is None else preparation.classes
    if (wish.positive is None) != anomalies or (classes and wish.positive not in classes):
        raise InputError(
            f"positive is {wish.positive!r}",
            allowed="none, with --false-alarms alone, for anomalies" if anomalies
            else ", ".join(classes) or "a class of recordings",
        )  # fmt: skip
