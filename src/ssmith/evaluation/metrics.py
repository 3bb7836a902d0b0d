"""Task metrics as one outcome per sequence, so that two models can be compared in pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from ssmith.core.errors import DataError, InputError, NumericalError
from ssmith.core.sequences import Sequences, Task
from ssmith.evaluation.running import evaluating, inputs_for, run_forward

PerSequence = Callable[[Tensor, Tensor], Tensor]


def predict(model: nn.Module, part: Sequences, batch_size: int = 64) -> Float[Tensor, "b o"]:
    """Run a model over sequences, in evaluation mode and without gradients.

    Sequences of similar length share a batch, which saves padding; the outputs come back in the
    order of ``part``.

    Args:
        model: called as ``model(x, lengths)``; its modes are restored afterwards.
        part: at least one sequence.
        batch_size: sequences per forward pass, ≥ 1.

    Returns:
        Outputs on the CPU, one row per sequence.

    Raises:
        InputError: if the batch size is below 1.
        DataError: if there is no sequence.
        NumericalError: if an output is not finite.
    """
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}", allowed="an integer ≥ 1")
    if not len(part):
        raise DataError("there is no sequence to predict")
    order = torch.argsort(part.lengths, stable=True)
    with evaluating(model):
        rows = [
            run_forward(model, *inputs_for(model, part.take(index))).cpu()
            for index in order.split(batch_size)
        ]
    outputs = torch.cat(rows)
    bad = int((~outputs.isfinite()).any(dim=1).sum())
    if bad:
        raise NumericalError(
            f"the outputs of {bad} of {len(part)} sequences are not finite",
            next_step="check the model with float64 and the scaling of the data",
        )
    return outputs[torch.argsort(order)]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric that is a mean over sequences, or the square root of one.

    Args:
        name: as it stands in a receipt.
        higher_is_better: direction.
        per_sequence: (outputs, y) → one float64 value per sequence.
        proportion: each value is 0 or 1 and the metric is their share.
        root: the metric is the square root of the mean.
        relative: losses are told as a share of the value before.
        counted: what there is one value of.
    """

    name: str
    higher_is_better: bool
    per_sequence: PerSequence
    proportion: bool = False
    root: bool = False
    relative: bool = False
    counted: str = "sequences"

    def of_mean(self, mean: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Turn a mean of the values per sequence into the metric."""
        return mean.sqrt() if self.root else mean

    def aggregate(self, values: Float64[Tensor, "n"]) -> float:
        """Return the metric over all sequences."""
        return float(self.of_mean(values.mean()))

    def loss(self, before: float, after: float) -> float:
        """Return how much worse ``after`` is (negative: better).

        Args:
            before: first value.
            after: second value.

        Returns:
            In the metric's own unit, or as a share of ``before`` (see ``relative``).
        """
        loss = before - after if self.higher_is_better else after - before
        return loss / abs(before) if self.relative else loss


def _check_classes(outputs: Tensor, y: Tensor) -> None:
    if y.is_floating_point() or y.shape != outputs.shape[:1]:
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
    flat = y.reshape(len(y), -1).to(torch.float64)
    if flat.shape != outputs.shape:
        raise DataError(
            f"targets of shape {tuple(y.shape)} do not fit outputs {tuple(outputs.shape)}",
            allowed="as many targets per sequence as the model has outputs",
        )
    return outputs.to(torch.float64) - flat


def is_right(outputs: Float[Tensor, "n o"], y: Tensor) -> Float64[Tensor, "n"]:
    """Return 1 where the largest output is the target class, else 0 (ties: the first wins)."""
    _check_classes(outputs, y)
    return (outputs.argmax(dim=1) == y).to(torch.float64)


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


ACCURACY = Metric(name="accuracy", higher_is_better=True, per_sequence=is_right, proportion=True)
CROSS_ENTROPY = Metric(
    name="cross-entropy", higher_is_better=False, per_sequence=negative_log_likelihood
)
MEAN_ABSOLUTE_ERROR = Metric(
    name="mean absolute error", higher_is_better=False, per_sequence=absolute_error
)
RMSE = Metric(name="rmse", higher_is_better=False, per_sequence=squared_error, root=True)
METRICS = {item.name: item for item in (ACCURACY, CROSS_ENTROPY, MEAN_ABSOLUTE_ERROR, RMSE)}


def default_metric(task: Task) -> Metric:
    """Return accuracy for classification, mean absolute error for regression and forecasts."""
    return ACCURACY if task == "classification" else MEAN_ABSOLUTE_ERROR


def find_metric(name: str) -> Metric:
    """Return a metric by name.

    Args:
        name: one of `METRICS`.

    Returns:
        The metric.

    Raises:
        InputError: if there is no such metric.
    """
    if name not in METRICS:
        raise InputError(f"metric {name!r}", allowed=", ".join(METRICS))
    return METRICS[name]
