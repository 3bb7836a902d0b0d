"""What a model loses on calibration rows, where no label says it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.core.rows import Rows
from ssmith.core.running import evaluating
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.perplexity import window_losses
from ssmith.families import answers_of

BATCH_SIZE = 64


def loss_on(model: nn.Module, rows: Rows | None) -> Callable[[nn.Module], float]:
    """Return how a cut model's loss is measured: no label is read.

    Of windows of text it is the perplexity; of anything else, how far outputs are from the dense
    model's: the divergence of class probabilities, or the squared error as a share of the outputs'
    own energy.
    """
    if rows is None:
        raise InputError(
            "losses are measured on data, and there is none",
            next_step="give rows of the kind the model was trained on",
        )
    if isinstance(rows, TokenWindows):
        return lambda other: math.exp(float(window_losses(other, rows).sum()) / rows.scored)
    dense = list(outputs_on(model, rows))
    classes = is_classifier(model)

    def divergence(other: nn.Module) -> float:
        total = weight = 0.0
        for before, after in zip(dense, outputs_on(other, rows), strict=True):
            if classes:
                first, second = (item.double().log_softmax(-1) for item in (before, after))
                total += float((first.exp() * (first - second)).sum())
                weight += len(before)
            else:
                total += float((before - after).double().square().sum())
                weight += float(before.double().square().sum())
        return total / weight if weight else 0.0

    return divergence


@torch.no_grad()
def outputs_on(model: nn.Module, rows: Rows) -> Iterator[Tensor]:
    """Yield a network's outputs batch by batch, on the CPU; of several tensors the first."""
    with evaluating(model):
        for items in rows.ranges(BATCH_SIZE):
            yield first_tensor(rows.forward(model, rows.batch(items))).detach().cpu()


def first_tensor(output: object) -> Tensor:
    """Return the tensor that an output is, or holds first."""
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, Tensor) and output.is_floating_point():
        return output
    parts = list(output.values()) if isinstance(output, dict) else output
    if isinstance(parts, list | tuple):
        for part in parts:
            if isinstance(part, Tensor) and part.is_floating_point():
                return part
    raise InputError(
        f"the network returns {type(output).__name__}",
        allowed="a tensor, or a tuple or dict with one",
        next_step="give rows a forward that returns the tensor that counts",
    )


def is_classifier(model: nn.Module) -> bool:
    """Return whether a model says that it scores classes."""
    answers = answers_of(model)
    return answers is not None and answers.task == "classification"
