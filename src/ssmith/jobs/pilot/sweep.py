"""Quality against removed states, for every criterion, on the selection split."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ssmith import api
from ssmith.core.budget import Budget
from ssmith.core.errors import NumericalError, PlanError
from ssmith.core.layers import Finding
from ssmith.core.plan import Plan
from ssmith.core.scores import Scores
from ssmith.core.sequences import Sequences
from ssmith.evaluation import Estimate, Metric
from ssmith.families import SequenceModel
from ssmith.spine.lti import Method, StatePlanner

# A loss equal to the tolerance is within it, also after rounding of the last bit.
_ROUNDING = 1e-12


def sweep(
    model: SequenceModel,
    method: Method,
    fractions: Sequence[float],
    measure: Callable[[SequenceModel], Estimate],
    calibration: Sequences | None = None,
) -> dict[str, Any]:
    """Measure a model at each fraction of removed states.

    A cut that cannot be made, or whose outputs are not finite, is a result like any other: its
    value is None, and ``why`` says what happened.

    Args:
        model: the dense model; it is not changed.
        method: how it is cut; its states are scored once.
        fractions: fractions of all states to remove.
        measure: measures a model.
        calibration: sequences for methods that refit.

    Returns:
        ``label`` and ``points``: fraction asked for, fraction removed, value, low, high.
    """
    planner = StatePlanner(model, method, calibration)

    def attempt(fraction: float, removed: Callable[[float], None]) -> Estimate:
        plan = planner.plan(Budget("state", fraction))
        removed(plan.cuts[0].sparsity)
        return measure(cut(model, plan))

    return {
        "label": method.label,
        "points": [measured_point(fraction, attempt) for fraction in fractions],
    }


def measured_point(
    fraction: float, attempt: Callable[[float, Callable[[float], None]], Estimate]
) -> dict[str, Any]:
    """Measure one cut; one that cannot be made or measured is a point too, with the reason.

    Args:
        fraction: to remove.
        attempt: cuts that fraction, calls its second argument with the fraction that is really
            gone, and measures.

    Returns:
        Fraction asked for, fraction removed, value, low, high; or ``why`` there is no value.
    """
    point: dict[str, Any] = {"fraction": fraction}
    point |= dict.fromkeys(("removed", "value", "low", "high"))
    try:
        found = attempt(fraction, lambda share: point.update(removed=share))
    except (PlanError, NumericalError) as error:
        return {**point, "why": error.what}
    return {**point, **found.as_dict()}


def cut(model: SequenceModel, plan: Plan) -> SequenceModel:
    """Return a shrunk copy of a model."""
    shrunk = copy.deepcopy(model)
    api.prune_(shrunk, plan)
    return shrunk


def best_of(
    swept: Mapping[str, Sequence[dict[str, Any]]], dense: float, metric: Metric, max_loss: float
) -> str:
    """Return which method removes most within the tolerance; the first of equally good ones.

    Args:
        swept: name of the method → its points, in rising order of the fraction.
        dense: the metric of the model as it is.
        metric: gives the direction.
        max_loss: largest loss, in the metric's unit.

    Returns:
        The name.
    """
    return max(swept, key=lambda name: within(swept[name], dense, metric, max_loss))


def within(points: Sequence[dict[str, Any]], dense: float, metric: Metric, max_loss: float) -> int:
    """Return how many points, from the smallest cut on, lose at most ``max_loss``.

    One point beyond the tolerance, or one that could not be measured, ends the count: a larger
    cut that happens to look better again is luck of the sample, not a safer model.

    Args:
        points: from `sweep`, in rising order of the fraction.
        dense: the metric of the model as it is.
        metric: gives the direction.
        max_loss: largest loss, in the metric's unit.

    Returns:
        A number of points, from 0 to all.
    """
    count = 0
    for point in points:
        value = point["value"]
        if value is None or metric.loss(dense, value) > max_loss + _ROUNDING:
            break
        count += 1
    return count


def between(fractions: Sequence[float], good: int, count: int) -> list[float]:
    """Return ``count`` fractions between the last good one and the next, evenly spaced.

    Args:
        fractions: rising.
        good: how many of them, from the first on, are within tolerance.
        count: how many to return; none if all are good.

    Returns:
        Fractions in rising order.
    """
    if good == len(fractions):
        return []
    low = fractions[good - 1] if good else 0.0
    step = (fractions[good] - low) / (count + 1)
    return [round(low + step * k, 6) for k in range(1, count + 1)]


def failed_points(methods: Mapping[str, Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return one finding for each point that could not be measured.

    Args:
        methods: label of the criterion → its points.

    Returns:
        What failed.
    """
    return [
        Finding(
            layer="",
            kind="not-measured",
            message=f"{label}, {point['fraction']:g} of the states: {point['why']}",
        ).as_dict()
        for label, points in methods.items()
        for point in points
        if point["value"] is None
    ]


def layer_details(scores: Scores, plan: Plan) -> list[dict[str, Any]]:
    """Return each layer's scores and kept states, for the report."""
    return [
        {
            "name": name,
            "grid": list(keep.shape),
            "before": keep.numel(),
            "after": int(keep.sum()),
            "scores": scores.values[name].flatten().tolist(),
            "kept": keep.flatten().tolist(),
        }
        for name, keep in plan.cuts[0].keep.items()
    ]
