"""Run a network over rows, batch by batch, in evaluation mode and without gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssmith.core.checks import check_integer
from ssmith.core.errors import DataError, NumericalError
from ssmith.core.rows import Batch, Rows
from ssmith.core.running import evaluating
from ssmith.core.sequences import Sequences
from ssmith.evaluation.running import inputs_for, run_forward

T = TypeVar("T")


def over_batches(
    model: nn.Module, rows: Rows, run: Callable[[Batch], T], batch_size: int
) -> list[T]:
    """Call something on every batch of rows, with the network in evaluation mode.

    Sequences of similar length share a batch, which saves padding (see `places_of`).
    """
    check_integer("batch_size", batch_size, at_least=1)
    if not len(rows):
        raise DataError("there is no row to run the model on")
    with evaluating(model):
        return [run(rows.batch(items)) for items in rows.ranges(batch_size)]


def places_of(rows: Rows, count: int) -> Int64[Tensor, "n"]:
    """Return where each row stands in what `over_batches` returns, batches joined."""
    return rows.by_length.argsort() if isinstance(rows, Sequences) else torch.arange(count)


def predict(model: nn.Module, part: Sequences, batch_size: int = 64) -> Float[Tensor, "b o"]:
    """Return what a model answers to sequences.

    Outputs are on the CPU, in the order of ``part``; one that is not finite is a `NumericalError`.
    """
    rows = over_batches(
        model,
        part,
        lambda batch: run_forward(model, *inputs_for(model, batch.inputs)).cpu(),
        batch_size,
    )
    outputs = torch.cat(rows)
    bad = int((~outputs.isfinite()).any(dim=1).sum())
    if bad:
        raise NumericalError(
            f"the outputs of {bad} of {len(part)} sequences are not finite",
            next_step="check the model with float64 and the scaling of the data",
        )
    return outputs[places_of(part, len(part))]
