"""What a larger cost of the cut means in the task's own unit, measured at release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssmith.core.looks import Loss
from ssmith.core.optional import require
from ssmith.evaluation.metrics import MEAN_ABSOLUTE_ERROR, Metric, Outcomes
from ssmith.watch.inputs import Readings
from ssmith.watch.inside import MEAN_COST, RowsSeen
from ssmith.watch.sketch import Values

KNOTS = 33
DRAWS = 100
_LEVEL = 0.95
_TINY = 1e-300
DISAGREE = "cut/answers/disagree"
"""Reading: whether, or of numbers by how much, the two models' answers to a row differ."""
APART = "cut/answers/distance"
"""Reading: how far the two models' answers to a row are apart."""


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """What was seen of the rows of a profile, in their order, changed in one way, if at all."""

    kind: str
    what: str
    seen: RowsSeen


@dataclass(frozen=True, kw_only=True)
class CostCurve:
    """Loss of an outcome against the cost of the cut on that row: a rising function.

    What a cost means on rows of another kind is not what it means on these. How much that can be is
    measured: each kind of change is told by a curve of the other kinds, and ``slack`` is the worst
    that came of it, per distance of the two models' answers, which is known without labels.

    Args:
        at: costs, rising.
        best: mean loss of a row at each of them.
        draws: the same, fitted to resampled rows.
        slack: largest error of a mean loss on a kind of change that the curve had not seen, as a
            multiple of the mean distance of answers there.
        kinds: of change; so many in one more are told within the slack, if the next is like them.
        pairs: rows it was fitted to, each perturbed one counted anew.
        rows: different rows among them.
        how: what was done to them.
    """

    at: Values
    best: Values
    draws: Values
    slack: float
    kinds: int
    pairs: int
    rows: int
    how: tuple[str, ...]

    @classmethod
    def fit(cls, shifts: Sequence[Shifted], metric: Metric, seed: int) -> CostCurve:
        """Fit a curve to what was seen of rows as they are, first, and perturbed, in one order.

        Every row with its perturbed twins is drawn, or not, together: their losses depend on each
        other.
        """
        costs = np.stack([item.seen.readings[MEAN_COST] for item in shifts])
        pairs = [row_losses(item.seen, metric) for item in shifts]
        losses, weights = (np.stack([pair[i] for pair in pairs]) for i in (0, 1))
        count = costs.shape[1]
        at = np.unique(np.quantile(costs, np.linspace(0, 1, KNOTS)))
        random = np.random.default_rng(seed)
        draws = []
        for _ in range(DRAWS):
            drawn = random.multinomial(count, np.full(count, 1 / count))
            draws.append(_rising(costs, losses, weights * drawn, at))
        kinds = np.array([item.kind for item in shifts])
        errors = []
        for kind in dict.fromkeys(kinds[1:]):
            others = kinds != kind
            told = _rising(costs[others], losses[others], weights[others], at)
            for place in np.flatnonzero(~others).tolist():
                true = np.average(losses[place], weights=weights[place])
                apart = shifts[place].seen.readings[APART].mean()
                error = abs(float(np.interp(costs[place], at, told).mean() - true))
                errors.append(error / max(float(apart), _TINY) if error else 0.0)
        return cls(
            at=at, best=_rising(costs, losses, weights, at), draws=np.stack(draws),
            slack=max(errors, default=0.0), kinds=len(set(kinds[1:])), pairs=costs.size, rows=count,
            how=tuple(item.what for item in shifts),
        )  # fmt: skip

    def loss(self, readings: Readings, level: float, metric: Metric, seed: int) -> Loss:
        """Return the loss that rows of these costs point to, in the metric's unit.

        Its interval is for the curve, the rows and what they may differ in from those of the
        profile. Costs beyond the curve count as at its end; ``level`` is the mean outcome of the
        dense model at release.
        """
        costs, apart = readings[MEAN_COST], readings[APART]
        random = np.random.default_rng(seed)
        best = np.interp(costs, self.at, self.best).mean()
        drawn = random.integers(len(costs), size=(len(self.draws), len(costs)))
        means = [
            np.interp(costs[index], self.at, draw).mean()
            for index, draw in zip(drawn, self.draws, strict=True)
        ]
        low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        slack = self.slack * float(apart.mean())
        most = float("inf")
        if metric.proportion or metric.name == MEAN_ABSOLUTE_ERROR.name:
            # Where answers are the same, so is what they score; elsewhere at most this is lost.
            most = float(readings[DISAGREE].mean())
        ends = np.clip([best, min(low, best) - slack, max(high, best) + slack], -most, most)
        value, low, high = (in_metric(float(item), level, metric) for item in ends)
        return Loss(value=value, low=low, high=high, level=self.kinds / (self.kinds + 1))

    def beyond(self, costs: Values) -> float:
        """Return the share of rows whose cost is larger than any the curve was fitted to."""
        return float((costs > self.at[-1]).mean())

    def tensors(self) -> dict[str, Values]:
        """Return what does not go into JSON."""
        return {"at": self.at, "best": self.best, "draws": self.draws}

    def facts(self) -> dict[str, Any]:
        """Return the rest, JSON-ready."""
        return {
            "slack": self.slack, "kinds": self.kinds, "pairs": self.pairs, "rows": self.rows,
            "how": list(self.how),
        }  # fmt: skip


def row_losses(seen: RowsSeen, metric: Metric) -> tuple[Values, Values]:
    """Return by how much each row's outcome is worse than the dense model's, and its weight."""
    dense, own = seen.outcomes
    assert dense is not None and own is not None
    sign = 1.0 if metric.higher_is_better else -1.0
    weight = np.ones(len(own)) if own.weight is None else own.weight.numpy().clip(1e-12)
    return sign * (dense.numerator.numpy() - own.numerator.numpy()) / weight, weight


def level_of(outcomes: Outcomes) -> float:
    """Return the mean outcome, before the metric's link."""
    return float(outcomes.numerator.sum()) / outcomes.total


def in_metric(loss: float, level: float, metric: Metric) -> float:
    """Return a loss of the mean outcome in the metric's unit; a relative one as a share.

    ``level`` is the mean outcome of the dense model.
    """
    if metric.link == "exp":
        return float(np.exp(loss) - 1.0) * (1.0 if metric.relative else float(np.exp(level)))
    if metric.link == "sqrt":
        return float(np.sqrt(max(level + loss, 0.0)) - np.sqrt(level))
    return loss


def _rising(cost: Values, loss: Values, weight: Values, at: Values) -> Values:
    """Return the isotonic regression of losses on costs, at some costs."""
    optimize = require("scipy.optimize", extra="watch", purpose="the curve of losses")
    there = weight > 0
    cost, loss, weight = cost[there], loss[there], weight[there]
    order = cost.argsort(kind="stable")
    fitted = optimize.isotonic_regression(loss[order], weights=weight[order]).x
    found: Values = np.interp(at, cost[order], fitted)
    return found
