"""What people ask of a model besides its metric, each number beside that of a naive answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssmith.core.errors import DataError
from ssmith.core.settings import AsDict

Numbers = NDArray[np.float64]
RECALL = 0.9
"""Share of the rare class that is to be found, for the rate of false alarms."""


@dataclass(frozen=True, kw_only=True)
class Measure(AsDict):
    """One number, and that of an answer which does not look at the inputs, if there is one."""

    name: str
    value: float
    naive: float | None = None
    answer: str = ""
    higher_is_better: bool = True

    @property
    def text(self) -> str:
        """Both numbers for people."""
        beside = "" if self.naive is None else f" ({self.answer}: {self.naive:.4g})"
        return f"{self.value:.4g}{beside}"


def of_classes(scores: Numbers, y: NDArray[np.int64], names: Sequence[str]) -> tuple[Measure, ...]:
    """Return balanced accuracy, F1, AUROC, AUPRC, and false alarms at a recall of 0.9.

    Scores (rows, classes) are logits or probabilities. Of two classes, the rarer one is what is
    looked for; of more, each is in turn, and the mean over those that occur is told. None where
    there is a single class.
    """
    present = [place for place in range(len(names)) if (y == place).any()]
    if len(present) < 2:
        return ()
    said = scores.argmax(1)
    usual = int(np.bincount(y).argmax())
    always = np.full(len(y), usual)
    found = [
        Measure(name="balanced accuracy", value=_recall(said, y, present),
                naive=1 / len(present), answer="one class always"),
        Measure(name="F1, mean over classes", value=_f1(said, y, present),
                naive=_f1(always, y, present), answer="the most frequent class always"),
    ]  # fmt: skip
    if len(names) == 2:
        rare = min(present, key=lambda place: int((y == place).sum()))
        looked, of = [rare], f" of {names[rare]!r}"
        ranks = scores[:, [rare]] - scores[:, [1 - rare]]
    else:
        looked, of = present, ", mean over classes"
        peak = scores.max(1, keepdims=True)
        ranks = (scores - peak - np.log(np.exp(scores - peak).sum(1, keepdims=True)))[:, present]
    truth = np.stack([y == place for place in looked], axis=1)
    return (*found, *_ranked(ranks, truth, of))


def of_scores(scores: Numbers, truth: NDArray[np.bool_]) -> tuple[Measure, ...]:
    """Return AUROC, AUPRC and false alarms of scores (rows,) of what is looked for.

    None where all rows are of one kind.
    """
    if truth.all() or not truth.any():
        return ()
    return tuple(_ranked(scores[:, None], truth[:, None], " of anomalies"))


def of_labels(scores: Numbers, y: Numbers) -> tuple[Measure, ...]:
    """Return the same of labels that may be together: (rows, labels), a score above 0 gives one."""
    truth = y > 0.5
    both = np.flatnonzero(truth.any(0) & ~truth.all(0))
    if not len(both):
        return ()
    f1 = float(np.mean([_f1_of(scores[:, place] > 0, truth[:, place]) for place in both]))
    all_of = float(np.mean([_f1_of(np.ones(len(truth), bool), truth[:, place]) for place in both]))
    first = Measure(
        name="F1, mean over labels", value=f1, naive=all_of, answer="every label always"
    )
    return (first, *_ranked(scores[:, both], truth[:, both], ", mean over labels"))


def of_numbers(
    given: Numbers,
    y: Numbers,
    *,
    naive: Sequence[tuple[str, Numbers]] = (),
    residuals: Numbers | None = None,
) -> tuple[Measure, ...]:
    """Return MAE, RMSE, and where they are known MASE, pinball loss and CRPS: means over targets.

    All is (rows, targets) in the targets' own units. The best of the ``naive`` predictions, and of
    the mean of ``y`` itself, stands beside; MASE is the MAE as a share of the first one's.
    ``residuals`` are y − prediction on other rows: the spread around each prediction, from which
    the quantiles of the pinball loss and the distribution of CRPS are taken. Raises `DataError` if
    shapes differ.
    """
    if given.shape != y.shape:
        raise DataError(f"predictions of shape {given.shape}", allowed=f"{y.shape}, as targets")
    plain = [("the median always", np.broadcast_to(np.median(y, 0), y.shape)), *naive]
    mean = [("the mean always", np.broadcast_to(y.mean(0), y.shape)), *naive]
    found = [
        _error("MAE", given, y, plain, lambda gap: float(np.abs(gap).mean())),
        _error("RMSE", given, y, mean, lambda gap: float(np.sqrt((gap**2).mean()))),
    ]
    if naive:
        scale = float(np.abs(naive[0][1] - y).mean())
        if scale:
            found.append(Measure(
                name="MASE", value=found[0].value / scale, naive=1.0, answer=naive[0][0],
                higher_is_better=False,
            ))  # fmt: skip
    if residuals is None or not len(residuals):
        return tuple(found)
    around = y - np.median(y, 0)
    found += [
        Measure(
            name=f"pinball loss at {share:g}", higher_is_better=False,
            value=pinball(given + np.quantile(residuals, share, axis=0), y, share),
            naive=pinball(np.broadcast_to(np.quantile(y, share, axis=0), y.shape), y, share),
            answer=f"the quantile {share:g} always",
        )
        for share in (0.1, 0.9)
    ]  # fmt: skip
    found.append(Measure(
        name="CRPS", higher_is_better=False, value=crps(y - given, residuals),
        naive=crps(around, around), answer="the spread of the targets always",
    ))  # fmt: skip
    return tuple(found)


def pinball(quantiles: Numbers, y: Numbers, share: float) -> float:
    """Return the mean loss of predictions that a share of the targets is to lie below."""
    gap = y - quantiles
    return float(np.maximum(share * gap, (share - 1) * gap).mean())


def crps(errors: Numbers, residuals: Numbers) -> float:
    """Return the mean CRPS of ``prediction + residual`` as a distribution: E|r − e| − E|r − r'|/2.

    Errors are target − prediction (rows, targets), residuals draws of the same on other rows; 0 for
    a distribution that is the target itself.
    """
    found = []
    for column in range(errors.shape[1]):
        drawn = np.sort(residuals[:, column])
        count = len(drawn)
        sums = np.concatenate([[0.0], np.cumsum(drawn)])
        below = np.searchsorted(drawn, errors[:, column])
        away = errors[:, column] * (2 * below - count) + sums[-1] - 2 * sums[below]
        # Of sorted draws, the mean distance of pairs is a weighted sum.
        apart = 2 * float(((2 * np.arange(1, count + 1) - count - 1) * drawn).sum()) / count**2
        found.append(float((away / count).mean()) - apart / 2)
    return float(np.mean(found))


def auroc(score: Numbers, truth: NDArray[np.bool_]) -> float:
    """Return the chance that a row that is looked for has a larger score than one that is not."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    ranks = middle[inverse]
    positive = int(truth.sum())
    total = float(ranks[truth].sum()) - positive * (positive + 1) / 2
    return total / (positive * (len(truth) - positive))


def auprc(score: Numbers, truth: NDArray[np.bool_]) -> float:
    """Return the average precision: precision at each threshold, by the recall gained there."""
    found, alarms = _at_thresholds(score, truth)
    gained = np.diff(np.concatenate([[0], found]))
    return float((gained * found / alarms).sum() / truth.sum())


def false_alarms(score: Numbers, truth: NDArray[np.bool_], recall: float = RECALL) -> float:
    """Return the least share of the other rows that are alarms where a share of those is found."""
    found, alarms = _at_thresholds(score, truth)
    first = int(np.argmax(found >= recall * truth.sum()))
    return float((alarms[first] - found[first]) / (~truth).sum())


def _at_thresholds(score: Numbers, truth: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Return how many are found, and how many alarms there are, from each score downwards."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    return np.cumsum(truth[order])[ends].astype(np.float64), (ends + 1).astype(np.float64)


def _ranked(ranks: Numbers, truth: NDArray[np.bool_], of: str) -> list[Measure]:
    columns = range(truth.shape[1])
    return [
        Measure(
            name=f"AUROC{of}", naive=0.5, answer="by chance",
            value=float(np.mean([auroc(ranks[:, i], truth[:, i]) for i in columns])),
        ),
        Measure(
            name=f"AUPRC{of}", naive=float(truth.mean(0).mean()), answer="by chance",
            value=float(np.mean([auprc(ranks[:, i], truth[:, i]) for i in columns])),
        ),
        Measure(
            name=f"false alarms at recall {RECALL:g}{of}", naive=RECALL, answer="by chance",
            value=float(np.mean([false_alarms(ranks[:, i], truth[:, i]) for i in columns])),
            higher_is_better=False,
        ),
    ]  # fmt: skip


def _recall(said: NDArray[np.int64], y: NDArray[np.int64], present: Sequence[int]) -> float:
    return float(np.mean([(said[y == place] == place).mean() for place in present]))


def _f1(said: NDArray[np.int64], y: NDArray[np.int64], present: Sequence[int]) -> float:
    return float(np.mean([_f1_of(said == place, y == place) for place in present]))


def _f1_of(said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    total = int(said.sum()) + int(truth.sum())
    return 2 * int((said & truth).sum()) / total if total else 0.0


def _error(
    name: str,
    given: Numbers,
    y: Numbers,
    others: Sequence[tuple[str, Numbers]],
    of: Callable[[Numbers], float],
) -> Measure:
    """Return an error beside the least one of other predictions."""
    errors = {answer: of(other - y) for answer, other in others}
    best = min(errors, key=errors.__getitem__)
    return Measure(
        name=name, value=of(given - y), naive=errors[best], answer=best, higher_is_better=False
    )
