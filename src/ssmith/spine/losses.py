"""What a model loses on calibration rows, where no label says it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.core.rows import Batch, Rows
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.perplexity import window_losses
from ssmith.evaluation.predict import over_batches, tensor_of
from ssmith.families import answers_of

BATCH_SIZE, WINDOWS = 64, 8
HELD_OUT = 0.25
"""Share of the calibration rows that losses are measured on, where cuts are fitted to others."""


def held_out(rows: Rows) -> tuple[Rows, Rows]:
    """Return rows to fit to, and rows to measure losses on."""
    held = max(round(HELD_OUT * len(rows)), 1)
    if held >= len(rows):
        raise InputError(
            f"{len(rows)} calibration rows",
            allowed="at least 2",
            next_step="a quarter of them is held out to measure losses on",
        )
    order = torch.arange(len(rows))
    return rows.take(order[:-held]), rows.take(order[-held:])


def loss_on(
    model: nn.Module, rows: Rows | None, batch_size: int | None = None
) -> Callable[[nn.Module], float]:
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
        size = batch_size or WINDOWS
        return lambda other: math.exp(
            float(window_losses(other, rows, batch_size=size).sum()) / rows.scored
        )

    def outputs_of(other: nn.Module) -> list[Tensor]:
        def run(batch: Batch) -> Tensor:
            return tensor_of(rows.forward(other, batch)).cpu()

        return over_batches(other, rows, run, batch_size or BATCH_SIZE)

    dense = outputs_of(model)
    classes = is_classifier(model)

    def divergence(other: nn.Module) -> float:
        total = weight = 0.0
        for before, after in zip(dense, outputs_of(other), strict=True):
            if classes:
                first, second = (item.double().log_softmax(-1) for item in (before, after))
                total += float((first.exp() * (first - second)).sum())
                weight += len(before)
            else:
                total += float((before - after).double().square().sum())
                weight += float(before.double().square().sum())
        return total / weight if weight else 0.0

    return divergence


def is_classifier(model: nn.Module) -> bool:
    """Return whether a model says that it scores classes."""
    answers = answers_of(model)
    return answers is not None and answers.task == "classification"
