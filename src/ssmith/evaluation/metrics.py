"""Metrics: what a number per row means, and what all rows together amount to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from ssmith.core.checks import check_choice
from ssmith.core.errors import DataError

_LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": torch.clone,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
}


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What was seen on each row: a metric is a ratio of sums over rows.

    Args:
        numerator: e.g. 1 for a right answer, an absolute error, the nats of a window.
        weight: e.g. the tokens of a window; None where every row counts 1.
        also: further metrics of the same rows, by name.
        units: number of each row's unit, where rows that are copies share one; None if all differ.
    """

    numerator: Float64[Tensor, "n"]
    weight: Float64[Tensor, "n"] | None = None
    also: Mapping[str, Outcomes] = field(default_factory=dict)
    units: Int64[Tensor, "n"] | None = None

    def __len__(self) -> int:
        return len(self.numerator)

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(len(self)) if self.weight is None else float(self.weight.sum())

    def merged(self) -> Outcomes:
        """Return one outcome per unit: what is seen seven times is no more known than once."""
        units = self.units
        if units is None or int(units.max()) + 1 == len(self):
            return replace(self, units=None)
        count = int(units.max()) + 1

        def summed(values: Tensor) -> Tensor:
            return torch.zeros(count, dtype=values.dtype).index_add_(0, units, values)

        weight = torch.ones_like(self.numerator) if self.weight is None else self.weight
        return Outcomes(
            numerator=summed(self.numerator),
            weight=summed(weight),
            also={name: replace(item, units=units).merged() for name, item in self.also.items()},
        )

    @property
    def counts(self) -> bool:
        """Whether every row is right or wrong and counts 1."""
        hits = self.numerator
        return self.weight is None and bool(((hits == 0) | (hits == 1)).all())


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What outcomes amount to: ``link(Σ numerator / Σ weight)``.

    Args:
        name: as it stands in a receipt.
        higher_is_better: direction.
        link: identity for a mean, exp for a perplexity, sqrt for a root of a mean square.
        proportion: the value is a share, told in percent; of right and wrong rows that count 1
            its intervals are exact scores and not a bootstrap.
        relative: losses are told as a share of the value before.
        counted: what there is one outcome of, in the plural.
        weighed: what the weights count, in the plural; empty where each row counts 1.

    Raises:
        InputError: if there is no such link.
    """

    name: str
    higher_is_better: bool
    link: str = "identity"
    proportion: bool = False
    relative: bool = False
    counted: str = "sequences"
    weighed: str = ""

    def __post_init__(self) -> None:
        check_choice("link", self.link, tuple(_LINKS))

    def of_ratio(self, ratio: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Turn ratios of sums into the metric."""
        return _LINKS[self.link](ratio)

    def value(self, outcomes: Outcomes) -> float:
        """Return the metric over all rows."""
        if outcomes.weight is None:
            return float(self.of_ratio(outcomes.numerator.mean()))
        return float(self.of_ratio(outcomes.numerator.sum() / outcomes.weight.sum()))

    def loss(self, before: float, after: float) -> float:
        """Return how much worse ``after`` is (negative: better).

        In the metric's own unit, or as a share of ``before`` (see ``relative``).
        """
        loss = before - after if self.higher_is_better else after - before
        return loss / abs(before) if self.relative else loss


def _check_classes(outputs: Tensor, y: Tensor) -> None:
    if outputs.ndim != 2 or y.is_floating_point() or y.shape != outputs.shape[:1]:
        raise DataError(
            f"targets are {y.dtype} of shape {tuple(y.shape)} for outputs {tuple(outputs.shape)}",
            allowed="one class index (int64) per sequence",
        )
    if len(y) and (int(y.min()) < 0 or int(y.max()) >= outputs.shape[1]):
        raise DataError(
            f"class indices reach from {int(y.min())} to {int(y.max())}",
            allowed=f"0 to {outputs.shape[1] - 1}, the outputs of the model",
        )


def _errors(outputs: Tensor, y: Tensor) -> Float64[Tensor, "n o"]:
    """Return output − target with all targets of a sequence in one row."""
    return outputs.to(torch.float64) - _flat(outputs, y)


def _flat(outputs: Tensor, y: Tensor) -> Float64[Tensor, "n o"]:
    """Return targets in the shape of outputs."""
    flat = y.reshape(len(y), -1).to(torch.float64)
    if flat.shape != outputs.shape:
        raise DataError(
            f"targets of shape {tuple(y.shape)} do not fit outputs {tuple(outputs.shape)}",
            allowed="as many targets per sequence as the model has outputs",
        )
    return flat


def is_right(outputs: Float[Tensor, "n o"], y: Tensor) -> Float64[Tensor, "n"]:
    """Return 1 where the largest output is the target class, else 0 (ties: the first wins)."""
    _check_classes(outputs, y)
    return (outputs.argmax(dim=1) == y).to(torch.float64)


def share_right(outputs: Float[Tensor, "n o"], y: Tensor) -> Float64[Tensor, "n"]:
    """Return the share of labels of each sequence that are given where they are, and only there."""
    return 1 - ((outputs > 0).to(torch.float64) - _flat(outputs, y)).abs().mean(dim=1)


def absolute_error(outputs: Float[Tensor, "n o"], y: Tensor) -> Float64[Tensor, "n"]:
    """Return the absolute error of each sequence, a mean over its targets."""
    return _errors(outputs, y).abs().mean(dim=1)


def squared_error(outputs: Float[Tensor, "n o"], y: Tensor) -> Float64[Tensor, "n"]:
    """Return the squared error of each sequence, a mean over its targets."""
    return _errors(outputs, y).square().mean(dim=1)


def negative_log_likelihood(outputs: Float[Tensor, "n o"], y: Tensor) -> Float64[Tensor, "n"]:
    """Return −log softmax(outputs)[y] of each sequence, in nats."""
    _check_classes(outputs, y)
    return nn.functional.cross_entropy(outputs.to(torch.float64), y, reduction="none")


ACCURACY = Metric(name="accuracy", higher_is_better=True, proportion=True)
CROSS_ENTROPY = Metric(name="cross-entropy", higher_is_better=False)
LABEL_ACCURACY = Metric(name="label accuracy", higher_is_better=True, proportion=True)
MEAN_ABSOLUTE_ERROR = Metric(name="mean absolute error", higher_is_better=False)
RMSE = Metric(name="rmse", higher_is_better=False, link="sqrt")
PERPLEXITY = Metric(
    name="perplexity",
    higher_is_better=False,
    link="exp",
    relative=True,
    counted="windows",
    weighed="counted tokens",
)
BITS_PER_BYTE = Metric(
    name="bits per byte", higher_is_better=False, counted="windows", weighed="bytes"
)
METRICS = {
    item.name: item
    for item in (
        ACCURACY,
        LABEL_ACCURACY,
        CROSS_ENTROPY,
        MEAN_ABSOLUTE_ERROR,
        RMSE,
        PERPLEXITY,
        BITS_PER_BYTE,
    )
}
