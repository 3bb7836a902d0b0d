"""What is learned: rows → a batch → a summed loss, for tokens, labels and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from ssmith.core.checks import check_number
from ssmith.core.examples import Example
from ssmith.core.sequences import Sequences, Task

IGNORED = -100
Batch = dict[str, Tensor]


@runtime_checkable
class Objective(Protocol):
    """A task of training."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is measured of a row, the loss that is learned first."""

    def collate(self, rows: Sequence[Any]) -> Batch:
        """Return rows of the data as one padded batch."""

    def counts(self, batch: Batch) -> Int64[Tensor, "b"]:
        """Return how many things each row's measures are summed over."""

    def measure(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b k"]:
        """Return what is measured of each row, summed over the row."""

    def score(self, means: dict[str, float]) -> tuple[float, ...]:
        """Return how good some means are; compared as tuples, larger is better."""


@dataclass(frozen=True)
class LanguageObjective:
    """Predict each learned token from those before it; prompts are read and not learned."""

    names: tuple[str, ...] = ("loss",)

    def collate(self, rows: Sequence[Example]) -> Batch:
        """Return rows padded on the right, with labels where a token is learned."""
        batch = _padded([row.ids for row in rows])
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
        for number, row in enumerate(rows):
            # The first token of a text has nothing before it to be predicted from.
            labels[number, : max(row.start, 1)] = IGNORED
        return {**batch, "labels": labels}

    def counts(self, batch: Batch) -> Int64[Tensor, "b"]:
        """Return the number of learned tokens of each row."""
        return (batch["labels"] != IGNORED).sum(1)

    def measure(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b 1"]:
        """Return the cross-entropy of each row's learned tokens, in nats."""
        logits, labels, chosen = _learned(model, batch)
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return _by_row(losses, chosen)[:, None]

    def score(self, means: dict[str, float]) -> tuple[float, ...]:
        """Return the negative loss."""
        return (-means["loss"],)


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Predict what a teacher predicts, and to some share what the text says.

    Args:
        teacher: a language model of the same vocabulary; never changed.
        weight: share of the teacher in the loss, in [0, 1]; the rest is cross-entropy.
        names: what is measured.

    Raises:
        InputError: if the weight is outside its domain.
    """

    teacher: nn.Module
    weight: float = 1.0
    names: tuple[str, ...] = ("loss", "divergence", "cross_entropy")

    def __post_init__(self) -> None:
        check_number("weight", self.weight, at_least=0, below=1 + 1e-9)
        self.teacher.requires_grad_(requires_grad=False).eval()

    def collate(self, rows: Sequence[Example]) -> Batch:
        """Return rows as `LanguageObjective` does."""
        return LanguageObjective().collate(rows)

    def counts(self, batch: Batch) -> Int64[Tensor, "b"]:
        """Return the number of learned tokens of each row."""
        return LanguageObjective().counts(batch)

    def measure(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b 3"]:
        """Return the loss, KL(teacher ‖ model) and cross-entropy of each row, in nats."""
        with torch.no_grad():
            wanted = functional.log_softmax(_learned(self.teacher, batch)[0], dim=-1)
        logits, labels, chosen = _learned(model, batch)
        found = functional.log_softmax(logits, dim=-1)
        gaps = functional.kl_div(found, wanted, reduction="none", log_target=True).sum(-1)
        divergence = _by_row(gaps, chosen)
        entropy = _by_row(functional.nll_loss(found, labels, reduction="none"), chosen)
        loss = self.weight * divergence + (1 - self.weight) * entropy
        return torch.stack([loss, divergence.detach(), entropy.detach()], dim=1)

    def score(self, means: dict[str, float]) -> tuple[float, ...]:
        """Return the negative loss."""
        return (-means["loss"],)


@dataclass(frozen=True, kw_only=True)
class AnswerObjective:
    """Predict one class or some numbers for a whole sequence of tokens, or a series.

    Args:
        task: classification has cross-entropy as its loss, the others the mean squared error.
    """

    task: Task

    @property
    def names(self) -> tuple[str, ...]:
        """The loss, and accuracy or mean absolute error."""
        return ("loss", "accuracy" if self.task == "classification" else "absolute_error")

    def collate(self, rows: Sequence[Example | tuple[Tensor, Tensor]]) -> Batch:
        """Return texts, or pairs of a series and its target, as one batch padded on the right."""
        texts = [row for row in rows if isinstance(row, Example)]
        kind = torch.int64 if self.task == "classification" else torch.float32
        if texts:
            target = torch.tensor([row.target for row in texts], dtype=kind)
            return {**_padded([row.ids for row in texts]), "target": target}
        pairs = [row for row in rows if isinstance(row, tuple)]
        lengths = torch.tensor([len(x) for x, _ in pairs])
        x = nn.utils.rnn.pad_sequence([x for x, _ in pairs], batch_first=True)
        target = torch.stack([y for _, y in pairs]).to(kind)
        return {"x": x, "lengths": lengths, "target": target}

    def counts(self, batch: Batch) -> Int64[Tensor, "b"]:
        """Return 1 for each sequence."""
        return torch.ones(len(batch["target"]), dtype=torch.int64, device=batch["target"].device)

    def measure(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b 2"]:
        """Return each sequence's loss, and whether it is right or its mean absolute error."""
        given = {name: value for name, value in batch.items() if name != "target"}
        return self.measure_answers(model(**given).float(), batch["target"])

    def measure_answers(self, found: Float[Tensor, "b *o"], target: Tensor) -> Float[Tensor, "b 2"]:
        """Return what `measure` does of answers that are there.

        Args:
            found: logits of classes, or numbers.
            target: class indices, or numbers.

        Returns:
            Each sequence's loss, and whether it is right or its mean absolute error.
        """
        if self.task == "classification":
            loss = functional.cross_entropy(found, target, reduction="none")
            return torch.stack([loss, (found.argmax(-1) == target).to(loss.dtype)], dim=1)
        gap = found - target.reshape(found.shape)
        return torch.stack([gap.square().mean(-1), gap.detach().abs().mean(-1)], dim=1)

    def score(self, means: dict[str, float]) -> tuple[float, ...]:
        """Return accuracy, and the negative loss to decide between equal ones."""
        if self.task == "classification":
            return (means["accuracy"], -means["loss"])
        return (-means["loss"],)


def rows_of(part: Sequences) -> list[tuple[Tensor, Tensor]]:
    """Return sequences as pairs of a series without its padding, and its target."""
    return [(part.x[i, :length], part.y[i]) for i, length in enumerate(part.lengths.tolist())]


def _padded(rows: Sequence[Tensor]) -> Batch:
    ids = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).to(torch.int64)
    return {"input_ids": ids, "attention_mask": mask}


def _learned(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits that predict learned tokens, those tokens, and where they stand."""
    out = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    )
    labels = batch["labels"][:, 1:]
    chosen = labels != IGNORED
    return out.logits[:, :-1][chosen].float(), labels[chosen], chosen


def _by_row(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the sum of each row's values, which stand where a row's steps are chosen."""
    return values.new_zeros(chosen.shape).masked_scatter(chosen, values).sum(1)
