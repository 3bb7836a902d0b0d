"""A task: what good means for a network on some rows, as one outcome per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ssmith.core.errors import DataError, InputError, NumericalError
from ssmith.core.rows import Batch, Rows
from ssmith.core.sequences import Sequences
from ssmith.core.tokens import TokenWindows
from ssmith.core.trees import placed
from ssmith.evaluation.metrics import Metric, Outcomes
from ssmith.evaluation.naive import units_of
from ssmith.evaluation.predict import answered, check_outputs, over_batches, places_of

Seen = Tensor | tuple[Tensor, Tensor] | Outcomes
"""One number per row; or numerators and weights."""
_TARGETS = ("labels", "label", "targets", "target", "y")
_ROWS_AT_ONCE, _WINDOWS_AT_ONCE = 64, 8


def _plainly(model: nn.Module) -> AbstractContextManager[object]:
    return nullcontext(model)


@dataclass(frozen=True, kw_only=True)
class Task:
    """How good a network is on rows.

    ``sm.Task(metric=sm.Metric(name="dice", higher_is_better=True), outcomes=fn)``

    Args:
        metric: what all outcomes together amount to.
        outcomes: ``(model, batch) → one number per row``, or a pair of numerators and weights; the
            batch is as the rows yield it, on the network's device.
        score: in its place, ``(outputs, targets) → the same``, of what the network returned for
            the batch; targets are those of sequences, the second of a tuple, or ``labels`` and
            the like of a dict.
        around: a context in which the network runs.

    Raises:
        InputError: unless there is one of ``outcomes`` and ``score``.
    """

    metric: Metric
    outcomes: Callable[[nn.Module, Any], Seen] | None = None
    score: Callable[[Tensor, Tensor], Seen] | None = None
    around: Callable[[nn.Module], AbstractContextManager[object]] = _plainly

    def __post_init__(self) -> None:
        if (self.outcomes is None) == (self.score is None):
            raise InputError(
                f"task {self.metric.name} has {'both' if self.outcomes else 'neither'} of outcomes "
                "and score",
                allowed="one of the two",
            )

    def of_batch(self, model: nn.Module, rows: Rows, batch: Batch) -> Outcomes:
        """Return the outcomes of one batch.

        The model is in evaluation mode; outcomes are in float64 on the CPU.
        """
        if self.outcomes is not None:
            return self._checked(self.outcomes(model, placed(batch.inputs, model)), batch.count)
        outputs = answered(model, rows, batch)
        return self.of_outputs(outputs, targets_of(batch))

    def of_outputs(self, outputs: Tensor, targets: Tensor) -> Outcomes:
        """Return the outcomes of what a network returned.

        Outputs are on the CPU, one row each; one that is not finite is a `NumericalError`.
        """
        if self.score is None:
            raise InputError(
                f"{self.metric.name} is no score of outputs", allowed="a task with one"
            )
        check_outputs(outputs, self.metric.counted)
        return self._checked(self.score(outputs, targets), len(outputs))

    def _checked(self, seen: Seen, count: int) -> Outcomes:
        if isinstance(seen, Outcomes):
            return seen
        parts = seen if isinstance(seen, tuple) else (seen,)
        for part in parts:
            shape = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            if shape != (count,):
                raise InputError(
                    f"the outcomes of {self.metric.name} have shape {shape}",
                    allowed=f"({count},), one number per row, or a pair of them",
                )
        wide = [part.detach().to("cpu", torch.float64) for part in parts]
        return Outcomes(numerator=wide[0], weight=wide[1] if len(wide) > 1 else None)


def outcomes_of(
    task: Task, model: nn.Module, rows: Rows, *, batch_size: int | None = None
) -> Outcomes:
    """Run a network over rows and return the outcome of each."""
    size = _WINDOWS_AT_ONCE if isinstance(rows, TokenWindows) else _ROWS_AT_ONCE
    with task.around(model):
        found = _joined(
            over_batches(
                model,
                rows,
                lambda batch: task.of_batch(model, rows, batch),
                size if batch_size is None else batch_size,
            )
        )
    back = replace(_taken(found, places_of(rows, len(found))), units=units_of(rows))
    _check_finite(back, task.metric, rows)
    return back


def targets_of(batch: Batch) -> Tensor:
    """Return what should have been predicted for a batch."""
    inputs = batch.inputs
    found: Any = None
    if isinstance(inputs, Sequences):
        found = inputs.y
    elif isinstance(inputs, tuple | list) and len(inputs) == 2:
        found = inputs[1]
    elif isinstance(inputs, Mapping):
        found = next((inputs[name] for name in _TARGETS if name in inputs), None)
    if not isinstance(found, Tensor):
        raise DataError(
            f"rows of {type(inputs).__name__} hold no targets",
            allowed=f"tuples (inputs, targets), or dicts with one of {', '.join(_TARGETS)}",
            next_step="give a Task whose outcomes know them",
        )
    return found


def _joined(parts: list[Outcomes]) -> Outcomes:
    weights = [part.weight for part in parts if part.weight is not None]
    if len(weights) not in (0, len(parts)):
        raise InputError("some batches have weights", allowed="weights for all rows, or none")
    return Outcomes(
        numerator=torch.cat([part.numerator for part in parts]),
        weight=torch.cat(weights) if weights else None,
        also={name: _joined([part.also[name] for part in parts]) for name in parts[0].also},
    )


def _taken(outcomes: Outcomes, index: Tensor) -> Outcomes:
    weight = outcomes.weight
    return replace(
        outcomes,
        numerator=outcomes.numerator[index],
        weight=None if weight is None else weight[index],
        also={name: _taken(item, index) for name, item in outcomes.also.items()},
    )


def _check_finite(outcomes: Outcomes, metric: Metric, rows: Rows) -> None:
    for values in (outcomes.numerator, outcomes.weight):
        if values is not None and not bool(values.isfinite().all()):
            bad = int((~values.isfinite()).nonzero()[0, 0])
            raise NumericalError(
                f"the {metric.name} of row {bad} of {rows.describe().name} is {values[bad].item()}",
                next_step="check the model's weights, or measure it in float32",
            )
