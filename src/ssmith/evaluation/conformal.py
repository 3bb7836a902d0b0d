"""Split conformal bounds: what a new row's score exceeds at most a given share of the time."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from ssmith.core.checks import check_number
from ssmith.core.errors import DataError

Numbers = NDArray[np.float64]


def bound(scores: Float[Numbers, "n"], level: float) -> float:
    """Return the ⌈(n + 1)·level⌉-th smallest score; ∞ where there are too few.

    A further score, exchangeable with these, is at most that with probability ≥ ``level``, and
    < ``level`` + 1/(n + 1) where no two are alike.

    Source: Lei et al. (2018), "Distribution-free predictive inference for regression", theorem 2.
    """
    check_number("level", level, above=0, below=1)
    # (n + 1)·level is often whole but for the last bit of the product.
    rank = math.ceil((len(scores) + 1) * level - 1e-9)
    return math.inf if rank > len(scores) else float(np.sort(scores)[rank - 1])


def least_rows(level: float) -> int:
    """Return how many rows a finite bound needs."""
    return math.ceil(level / (1 - level) - 1e-9)


def half_widths(
    predicted: Float[Numbers, "n o"], targets: Float[Numbers, "n o"], level: float
) -> tuple[float, ...]:
    """Return for each output the half width of an interval that covers a new target."""
    misses = np.abs(predicted - targets)
    if len(misses) < least_rows(level):
        raise DataError(
            f"{len(misses)} rows to fit intervals of {level:.4g} on",
            allowed=f"at least {least_rows(level)}",
            next_step="give more validation rows, or ask for a lower level",
        )
    return tuple(bound(column, level) for column in misses.T)


def for_recall(
    shares: Float[Numbers, "n"], is_class: Bool[NDArray[np.bool_], "n"], recall: float
) -> float:
    """Return the probability from which a class is given so that ≥ ``recall`` of it are found.

    Its rows' probabilities are the scores of a bound from below.
    """
    mine = shares[is_class]
    found = -bound(-mine, recall) if len(mine) else -math.inf
    if math.isinf(found):
        raise DataError(
            f"{len(mine)} rows of the class to fit a recall of {recall:.4g} on",
            allowed=f"at least {least_rows(recall)}",
            next_step="give more validation rows, or ask for less",
        )
    return found


def for_false_alarms(
    shares: Float[Numbers, "n"], is_class: Bool[NDArray[np.bool_], "n"], rate: float
) -> float:
    """Return the probability from which a class is given so that ≤ ``rate`` of others get it."""
    others = shares[~is_class]
    found = bound(others, 1 - rate) if len(others) else math.inf
    if math.isinf(found):
        raise DataError(
            f"{len(others)} rows of other classes to fit a rate of false alarms of {rate:.4g} on",
            allowed=f"at least {least_rows(1 - rate)}",
            next_step="give more validation rows, or allow more",
        )
    # A probability that is reached is given: the bound itself must not be.
    return float(np.nextafter(found, math.inf))
