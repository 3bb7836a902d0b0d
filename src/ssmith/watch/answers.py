"""What a network answers to each row, and how far two networks answer differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from ssmith.core.rows import Batch, Rows
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.metrics import Outcomes
from ssmith.evaluation.task import Task
from ssmith.families import answers_of

Kind = Literal["text", "classes", "numbers"]
Read = dict[str, Float64[Tensor, "b"]]
_MOST = 32
"""Classes or outputs that get a reading each."""
OF_CLASSES = ("accuracy", "cross-entropy")


def kind_of(model: nn.Module, rows: Rows, task: Task | None) -> Kind:
    """Return what a network answers: text, a class, or numbers."""
    if isinstance(rows, TokenWindows):
        return "text"
    answers = answers_of(model)
    if answers is not None:
        return "classes" if answers.task == "classification" else "numbers"
    return "classes" if task is not None and task.metric.name in OF_CLASSES else "numbers"


def read_answers(kind: Kind, outputs: Tensor, batch: Batch) -> Read:
    """Return what the answers to a batch are like: readings, one number per row."""
    if kind == "numbers":
        flat = outputs.double().flatten(1)
        return {f"output/value {i}/value": flat[:, i] for i in range(min(_MOST, flat.shape[1]))}
    logs = outputs.double().log_softmax(-1)
    confidence, entropy = logs.exp().amax(-1), -(logs.exp() * logs).sum(-1)
    if kind == "text":
        over = _over_windows(batch)
        outcomes = text_outcomes(logs, batch)
        assert outcomes.weight is not None
        return {
            "output/text/nats per token": outcomes.numerator / outcomes.weight.clamp(min=1),
            "output/text/confidence": over(confidence),
            "output/text/entropy": over(entropy),
        }
    picked = logs.argmax(-1)
    shares = {
        f"output/class {k}/share": (picked == k).double() for k in range(min(_MOST, logs.shape[1]))
    }
    return {"output/answer/confidence": confidence, "output/answer/entropy": entropy, **shares}


def read_difference(kind: Kind, outputs: Tensor, dense: Tensor, batch: Batch) -> Read:
    """Return how far two networks answer a batch differently, per row.

    ``disagree``: whether (of text: how often) they answer differently, of numbers by how much on
    average; ``distance``, between their probabilities: the largest difference of a probability
    summed (of text: nats per token), of numbers a root of mean squares.
    """
    if kind == "numbers":
        apart = outputs.double().flatten(1) - dense.double().flatten(1)
        read = {"disagree": apart.abs().mean(1), "distance": apart.square().mean(1).sqrt()}
    else:
        logs, old = outputs.double().log_softmax(-1), dense.double().log_softmax(-1)
        differ = (logs.argmax(-1) != old.argmax(-1)).double()
        if kind == "classes":
            total = 0.5 * (logs.exp() - old.exp()).abs().sum(-1)
            read = {"disagree": differ, "distance": total}
        else:
            over = _over_windows(batch)
            divergence = (old.exp() * (old - logs)).sum(-1)
            read = {"disagree": over(differ), "distance": over(divergence)}
    return {f"cut/answers/{name}": values for name, values in read.items()}


def text_outcomes(logs: Float64[Tensor, "b l v"], batch: Batch) -> Outcomes:
    """Return nats and counted tokens of each window, from log-probabilities of the next token."""
    windows: TokenWindows = batch.inputs
    nats = nll_loss(logs[:, :-1].flatten(0, 1), windows.ids[:, 1:].flatten(), reduction="none")
    place = torch.arange(1, windows.ids.shape[1])
    counted = (place >= windows.scored_from[:, None]) & (place < windows.lengths[:, None])
    nats = (nats.view(counted.shape) * counted).sum(1)
    return Outcomes(numerator=nats, weight=counted.sum(1).double())


def _over_windows(batch: Batch) -> Callable[[Tensor], Tensor]:
    """Return what averages numbers per position over the valid positions of each window."""
    lengths, length = batch.inputs.lengths, batch.inputs.ids.shape[1]
    valid = (torch.arange(length) < lengths[:, None]).double()
    return lambda values: (values * valid).sum(1) / lengths
