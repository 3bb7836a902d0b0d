"""What a larger cost of the cut means in the task's own unit, measured at release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssmith.core.optional import require
from ssmith.evaluation.metrics import Metric, Outcomes
from ssmith.watch.inside import MEAN_COST, RowsSeen
from ssmith.watch.sketch import Values

KNOTS = 33
DRAWS = 100
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A loss of the metric against the dense model, estimated or measured.

    Args:
        value: in the metric's unit; larger is worse.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return a JSON-ready dict."""
        return {"value": self.value, "low": self.low, "high": self.high, "level": _LEVEL}


@dataclass(frozen=True, kw_only=True)
class CostCurve:
    """Loss of an outcome against the cost of the cut on that row: a rising function.

    Args:
        at: costs, rising.
        best: mean loss of a row at each of them.
        draws: the same, fitted to resampled rows.
        pairs: rows it was fitted to, each perturbed one counted anew.
        rows: different rows among them.
        how: what was done to them.
    """

    at: Values
    best: Values
    draws: Values
    pairs: int
    rows: int
    how: tuple[str, ...]

    @classmethod
    def fit(
        cls, seen: Sequence[RowsSeen], metric: Metric, how: Sequence[str], seed: int
    ) -> CostCurve:
        """Fit a curve to what was seen of rows as they are and perturbed.

        Every row with its perturbed twins is drawn, or not, together: their losses depend on each
        other.

        Args:
            seen: of the rows, then of each perturbation, in one order of rows.
            metric: what outcomes mean.
            how: what was done.
            seed: of the resampling.

        Returns:
            The curve.
        """
        cost = np.concatenate([item.readings[MEAN_COST] for item in seen])
        pairs = [row_losses(item, metric) for item in seen]
        loss, weight = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
        count = len(cost) // len(seen)
        at = np.unique(np.quantile(cost, np.linspace(0, 1, KNOTS)))
        random = np.random.default_rng(seed)
        draws = []
        for _ in range(DRAWS):
            drawn = random.multinomial(count, np.full(count, 1 / count))
            draws.append(_rising(cost, loss, weight * np.tile(drawn, len(seen)), at))
        return cls(
            at=at, best=_rising(cost, loss, weight, at), draws=np.stack(draws),
            pairs=len(cost), rows=count, how=tuple(how),
        )  # fmt: skip

    def loss(self, costs: Values, level: float, metric: Metric, seed: int) -> Loss:
        """Return the loss that rows of these costs point to.

        Args:
            costs: of new rows; beyond the curve they count as at its end.
            level: mean outcome of the dense model at release.
            metric: what outcomes mean.
            seed: of the resampling of rows.

        Returns:
            In the metric's unit, with an interval for the curve and the rows together.
        """
        random = np.random.default_rng(seed)
        best = np.interp(costs, self.at, self.best).mean()
        drawn = random.integers(len(costs), size=(len(self.draws), len(costs)))
        means = [
            np.interp(costs[index], self.at, draw).mean()
            for index, draw in zip(drawn, self.draws, strict=True)
        ]
        low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        value, low, high = (in_metric(float(item), level, metric) for item in (best, low, high))
        return Loss(value=value, low=min(low, value), high=max(high, value))

    def beyond(self, costs: Values) -> float:
        """Return the share of rows whose cost is larger than any the curve was fitted to."""
        return float((costs > self.at[-1]).mean())

    def tensors(self) -> dict[str, Values]:
        """Return what does not go into JSON."""
        return {"at": self.at, "best": self.best, "draws": self.draws}

    def facts(self) -> dict[str, Any]:
        """Return the rest, JSON-ready."""
        return {"pairs": self.pairs, "rows": self.rows, "how": list(self.how)}


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
    """Return a loss of the mean outcome in the metric's unit.

    Args:
        loss: larger is worse.
        level: mean outcome of the dense model.
        metric: what outcomes mean.

    Returns:
        The loss; of a metric whose losses are relative as a share.
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
    order = cost[there].argsort(kind="stable")
    fitted = optimize.isotonic_regression(loss[there][order], weights=weight[there][order]).x
    found: Values = np.interp(at, cost[there][order], fitted)
    return found
