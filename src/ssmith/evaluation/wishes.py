"""What is wanted of answers, and the thresholds that keep it: fitted on rows of labelled data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmith.core.checks import check_number
from ssmith.core.errors import InputError
from ssmith.core.names import unknown_name
from ssmith.core.preparation import Preparation
from ssmith.evaluation import conformal

Numbers = NDArray[np.float64]
SCORE = "anomaly score"
"""What the threshold of an anomaly is of, where those of classes have the names of classes."""
_HALF = 0.5
_USUAL_ALARMS = 0.01


@dataclass(frozen=True, kw_only=True)
class DecisionConfig:
    """What is wanted of answers; fitted on labelled rows that the model has not learned from.

    Args:
        level: share of new rows that an interval covers, in (0, 1); None: 0.9, or the most that
            could be promised at training.
        positive: class whose threshold is fitted.
        recall: share of its rows that are to be given it.
        false_alarms: or the share of other rows that may be given it; of anomalies the share of
            usual rows that may be called one.

    Raises:
        InputError: if a value is out of its domain, or the wishes do not go together.
    """

    level: float | None = None
    positive: str | None = None
    recall: float | None = None
    false_alarms: float | None = None

    def __post_init__(self) -> None:
        for name in ("level", "recall", "false_alarms"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0, below=1)
        wishes = [name for name in ("recall", "false_alarms") if getattr(self, name) is not None]
        if len(wishes) > 1:
            raise InputError(
                "recall and false_alarms together", allowed="one of them: a threshold keeps one"
            )
        alone = self.positive is None and self.recall is not None
        if alone or (self.positive is not None and not wishes):
            raise InputError(
                f"positive is {self.positive!r} with {wishes[0] if wishes else 'no wish'}",
                allowed="positive=CLASS with one of recall and false_alarms",
            )

    @property
    def wants_threshold(self) -> bool:
        """Whether a threshold is to be fitted."""
        return self.positive is not None or self.false_alarms is not None


def class_threshold(
    config: DecisionConfig, names: Sequence[str], shares: Numbers, truth: NDArray[Any]
) -> dict[str, float]:
    """Return the threshold of the class that is wanted, by its name.

    ``shares`` are probabilities (rows, classes); ``truth`` is the index of each row's class, or
    (rows, classes) of labels that may be together.
    """
    wanted = config.positive or ""
    if wanted not in names:
        raise unknown_name(f"positive is {wanted!r}", wanted, list(names))
    place = list(names).index(wanted)
    is_class = truth == place if truth.ndim == 1 else truth[:, place] > _HALF
    if config.recall is not None:
        found = conformal.for_recall(shares[:, place], is_class, config.recall)
    else:
        found = conformal.for_false_alarms(shares[:, place], is_class, config.false_alarms or 0)
    return {wanted: found}


def anomaly_threshold(config: DecisionConfig, scores: Numbers) -> dict[str, float]:
    """Return the score that usual rows pass at most as often as is wanted: one in a hundred.

    Where there are fewer rows than that, unless more were asked for, as often as they can promise.
    """
    rate = config.false_alarms or max(_USUAL_ALARMS, 1 / (len(scores) + 1))
    nobody = np.zeros(len(scores), dtype=bool)
    return {SCORE: conformal.for_false_alarms(scores, nobody, rate)}


def anomaly_scores(given: Numbers, truth: Numbers, preparation: Preparation) -> Numbers:
    """Return how far what came is from what was expected, in spreads of the training rows."""
    spread = np.array([item.std for item in preparation.targets])
    return np.asarray(np.sqrt((((given - truth) / spread) ** 2).mean(1)))
