"""With labels: is the metric still what was promised? Decided as soon as it can be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ssmith.core.errors import ArtefactError
from ssmith.core.looks import QualityNow
from ssmith.evaluation.metrics import Metric, Outcomes
from ssmith.evaluation.sequential import Sequential, SequentialConfig
from ssmith.watch.curve import in_metric
from ssmith.watch.profile import Promise

ROOM = 4.0
"""Outcomes are bounded by so many times the largest at release; beyond, they count as the bound."""


def judge(
    promise: Promise, outcomes: Outcomes, metric: Metric, before: Any, alpha: float
) -> tuple[QualityNow, Mapping[str, Any]]:
    """Go on with the sequential test of the promise; return what is found, and the new state.

    What is tested is the mean loss of a row against what was promised at the worse end of its
    interval; the test holds however often one looks. ``alpha`` is the probability of ever saying
    "worse" of a model that keeps its promise.
    """
    sign = -1.0 if metric.higher_is_better else 1.0
    assert promise.level is not None and promise.worst is not None
    assert promise.value is not None and promise.largest is not None
    bound = 1.0 if metric.proportion else max(ROOM * promise.largest, 1e-9)
    low, high = (-bound, 0.0) if metric.higher_is_better else (0.0, bound)
    test = _resumed(before)
    if test is None:
        tolerance = float(np.clip(sign * promise.worst, low, high - 1e-6 * bound))
        config = SequentialConfig(
            tolerance=tolerance, low=low, high=high, level=1 - alpha, sides="above"
        )
        test = Sequential(config=config)
    weight = np.ones(len(outcomes)) if outcomes.weight is None else outcomes.weight.numpy()
    losses = sign * outcomes.numerator.numpy() / np.maximum(weight, 1e-12)
    # Windows of text differ little in weight; each counts once here, as a row.
    test.observe(np.clip(losses, low, high).tolist())
    level = sign * promise.level
    ends = tuple(in_metric(end - level, promise.level, metric) for end in test.interval)
    found = QualityNow(
        metric=metric.name, now=metric.value(outcomes), promised=promise.value,
        decision="worse" if test.decision == "worse" else "open", rows=test.count,
        loss=in_metric(test.mean - level, promise.level, metric), interval=(ends[0], ends[1]),
        capped=float(((losses < low) | (losses > high)).mean()),
    )  # fmt: skip
    return found, test.as_dict()


def _resumed(before: Any) -> Sequential | None:
    if before is None:
        return None
    try:
        return Sequential.from_dict(before)
    except ArtefactError:
        # Of another version: it begins anew, which forgets evidence and invents none.
        return None
