"""What somebody reaches who never looks at the inputs, and how many rows are not copies."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from ssmith.core.findings import Finding
from ssmith.core.rows import Rows
from ssmith.core.sequences import Sequences
from ssmith.core.threshold import Scale
from ssmith.core.tokens import TokenWindows
from ssmith.core.words import number_of
from ssmith.evaluation.metrics import Metric

FEW = 20
"""Below so many different rows an interval says little."""


@dataclass(frozen=True, kw_only=True)
class Naive:
    """The best answer that is the same whatever the input is, and its metric on these rows."""

    value: float
    answer: str

    def beats(self, metric: Metric, value: float) -> bool:
        """Return whether a model is no better than this answer."""
        return value <= self.value if metric.higher_is_better else value >= self.value

    def finding(self, metric: Metric, value: float, low: float | None, high: float | None) -> str:
        """Return what to know of a model that is not proven better by its interval, or nothing."""
        worst = low if metric.higher_is_better else high
        if not self.beats(metric, value if worst is None else worst):
            return ""
        proven = "is no better" if self.beats(metric, value) else "is not proven better"
        shown = [f"{100 * item:.4g} %" if metric.proportion else f"{item:.4g}"
                 for item in (value, self.value)]  # fmt: skip
        return (
            f"the model before any change has {metric.name} {shown[0]}, which {proven} than "
            f"{self.answer} ({shown[1]}): anything can be cut from a model that guesses; train it, "
            "or check that the data is what it was trained on"
        )


def naive_of(metric: Metric, rows: Rows) -> Naive | None:
    """Return the best answer without looking at the inputs, or None if that is not known."""
    if isinstance(rows, TokenWindows) and metric.name == "perplexity":
        return _of_tokens(rows)
    if not isinstance(rows, Sequences) or not len(rows):
        return None
    if metric.name in ("accuracy", "cross-entropy", "label accuracy"):
        return _of_classes(metric, rows)
    if metric.name in ("mean absolute error", "rmse"):
        return _of_numbers(metric, rows)
    return None


def _of_classes(metric: Metric, rows: Sequences) -> Naive:
    if metric.name == "label accuracy":
        shares = rows.y.double().mean(0)
        named = "always giving the labels that most rows have"
        return Naive(value=float(torch.maximum(shares, 1 - shares).mean()), answer=named)
    shares = rows.y.bincount().double() / len(rows)
    if metric.name == "accuracy":
        named = "always naming the most frequent class"
        return Naive(value=float(shares.max()), answer=named)
    entropy = float(torch.special.entr(shares).sum())
    return Naive(value=entropy, answer="always giving the frequencies of the classes")


def _of_tokens(rows: TokenWindows) -> Naive:
    """Return the perplexity of the frequencies of the very tokens that are predicted."""
    place = torch.arange(rows.ids.shape[1])
    scored = (place >= rows.scored_from[:, None]) & (place < rows.lengths[:, None])
    shares = rows.ids[scored].bincount().double()
    entropy = float(torch.special.entr(shares / shares.sum().clamp(min=1)).sum())
    return Naive(value=math.exp(entropy), answer="always giving the frequencies of the tokens")


def _of_numbers(metric: Metric, rows: Sequences) -> Naive:
    y = rows.y.reshape(len(rows), -1).double()
    middle = y.mean(0) if metric.name == "rmse" else y.quantile(0.5, dim=0)
    word = "mean" if metric.name == "rmse" else "median"
    found = [Naive(value=_error(metric, y - middle), answer=f"always giving the {word} target")]
    last = _last_values(rows)
    if last is not None:
        answer = "always giving the last value of the series"
        found.append(Naive(value=_error(metric, y - last), answer=answer))
    return min(found, key=lambda item: item.value)


def _error(metric: Metric, errors: Float64[Tensor, "n o"]) -> float:
    each = errors.square() if metric.name == "rmse" else errors.abs()
    return float(metric.of_ratio(each.mean()))


def _last_values(rows: Sequences) -> Float64[Tensor, "n o"] | None:
    """Return the last value of each series at every step ahead, where targets are such values."""
    if rows.x.ndim != 3 or rows.x.shape[2] != 1:
        return None
    last = rows.x[torch.arange(len(rows)), rows.lengths - 1, 0].double()
    return last[:, None].expand(-1, rows.y.reshape(len(rows), -1).shape[1])


def units_of(rows: Rows) -> Int64[Tensor, "n"] | None:
    """Return for each row the number of its like, from 0 on: rows that are copies share one.

    None of rows that yield batches, whose rows are not compared.
    """
    if isinstance(rows, Sequences):
        parts: list[Tensor] = [rows.x, rows.y, rows.lengths]
    elif isinstance(rows, TokenWindows):
        parts = [rows.ids, rows.lengths, rows.scored_from]
    else:
        return None
    arrays = [part.cpu().contiguous().numpy() for part in parts]
    seen: dict[bytes, int] = {}
    found = []
    for row in range(len(rows)):
        digest = hashlib.blake2b(b"|".join(array[row].tobytes() for array in arrays)).digest()
        found.append(seen.setdefault(digest, len(seen)))
    return torch.tensor(found, dtype=torch.int64)


def few_units(count: int, units: int, noun: str) -> Finding | None:
    """Return what to know of an interval that rests on few different rows, if it does."""
    copies = "" if units == count else f" ({number_of(count, noun)}, the others are copies)"
    if units >= FEW:
        return None
    message = (
        f"measured on {units} different {noun}{'' if units == 1 else 's'}{copies}: "
        + ("too few for an interval" if units < 2 else "intervals of so few say little")
        + f"; give at least {FEW}"
    )
    return Finding(layer="", kind="few-rows", message=message)


def scale_of(metric: Metric, dense: float | None, naive: Naive | None) -> Scale:
    """Return what a tolerance is measured on (see `ssmith.core.threshold`)."""
    return Scale(
        metric=metric.name,
        share=metric.proportion,
        relative=metric.relative,
        dense=dense,
        naive=None if naive is None else naive.value,
        answer="a naive answer" if naive is None else naive.answer,
    )
