"""Run a network over rows, batch by batch, in evaluation mode and without gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ssmith.core.checks import check_integer
from ssmith.core.errors import DataError, InputError, ModelError, NumericalError
from ssmith.core.rows import Batch, Rows
from ssmith.core.running import evaluating
from ssmith.core.sequences import Sequences

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


def answered(model: nn.Module, rows: Rows, batch: Batch) -> Tensor:
    """Return what a network answers to a batch, one row of outputs per row, on the CPU."""
    outputs = tensor_of(rows.forward(model, batch)).cpu()
    if outputs.shape[:1] != (batch.count,):
        raise ModelError(
            f"the model answered {tuple(outputs.shape)} to a batch of {batch.count}",
            allowed="one row of outputs per row",
        )
    return outputs


def tensor_of(outputs: Any) -> Tensor:
    """Return the tensor in what a network returned: itself, its logits, or the first real one."""
    for item in (outputs, getattr(outputs, "logits", None)):
        if isinstance(item, Tensor):
            return item
    parts: Sequence[Any] = outputs if isinstance(outputs, tuple | list) else ()
    if isinstance(outputs, Mapping):
        parts = [outputs["logits"]] if "logits" in outputs else list(outputs.values())
    for part in parts:
        if isinstance(part, Tensor) and part.is_floating_point():
            return part
    if parts:
        return tensor_of(parts[0])
    raise InputError(
        f"the network returned {type(outputs).__name__}",
        allowed="a tensor, or something with logits",
        next_step="give a Task whose outcomes read it, or rows a forward that returns the tensor",
    )


def check_outputs(outputs: Tensor, counted: str) -> None:
    """Raise unless all outputs of some rows are finite."""
    bad = int((~outputs.isfinite()).reshape(len(outputs), -1).any(dim=1).sum())
    if bad:
        raise NumericalError(
            f"the outputs of {bad} of {len(outputs)} {counted} are not finite",
            next_step="check the model with float64 and the scaling of the data",
        )


def predict(model: nn.Module, part: Sequences, batch_size: int = 64) -> Float[Tensor, "b o"]:
    """Return what a model answers to sequences, on the CPU and in their order."""
    rows = over_batches(model, part, lambda batch: answered(model, part, batch), batch_size)
    outputs = torch.cat(rows)
    if outputs.ndim != 2:
        raise ModelError(
            f"the model answered {tuple(outputs.shape)} to {len(part)} sequences",
            allowed="answers of the shape (sequences, outputs)",
        )
    check_outputs(outputs, "sequences")
    return outputs[places_of(part, len(part))]
