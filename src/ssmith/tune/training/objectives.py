"""What is learned: rows → a batch → a loss, of tokens, labels and targets, or of a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn import functional

from ssmith.core.checks import check_number
from ssmith.core.examples import Example
from ssmith.core.sequences import Sequences, Task
from ssmith.tune.hankel import hankel_penalty

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

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Return the mean loss of what a batch counts."""

    def measure(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b k"]:
        """Return what is measured of each row, summed over the row."""

    def score(self, means: dict[str, float]) -> tuple[float, ...]:
        """Return how good some means are; compared as tuples, larger is better."""


@dataclass(frozen=True, kw_only=True)
class _Taught:
    """What is learned from a teacher too; the teacher is never changed."""

    teacher: nn.Module | None = None
    distill_weight: float = 1.0

    def __post_init__(self) -> None:
        check_number("distill_weight", self.distill_weight, at_least=0, below=1 + 1e-9)
        if self.teacher is not None:
            self.teacher.requires_grad_(requires_grad=False).eval()


@dataclass(frozen=True, kw_only=True)
class LanguageObjective(_Taught):
    """Predict each learned token from those before it; prompts are read and not learned.

    Args:
        teacher: a language model of the same vocabulary whose predictions are learned; never
            changed. None to learn from the text alone.
        distill_weight: share of the teacher in the loss, in [0, 1]; the rest is cross-entropy.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The loss in nats; with a teacher the divergence from it and the cross-entropy too."""
        return ("loss",) if self.teacher is None else ("loss", "divergence", "cross_entropy")

    def collate(self, rows: Sequence[Example]) -> Batch:
        """Return rows padded on the right, with the token after each where it is learned."""
        batch = _padded([row.ids[: max(1, len(row.ids) - 1)] for row in rows])
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for number, row in enumerate(rows):
            # The first token of a text has nothing before it to be predicted from.
            first = max(row.start, 1)
            labels[number, first - 1 : len(row.ids) - 1] = row.ids[first:]
            for start, stop in row.gaps:
                labels[number, start - 1 : stop - 1] = IGNORED
        return {**batch, "labels": labels}

    def counts(self, batch: Batch) -> Int64[Tensor, "b"]:
        """Return the number of learned tokens of each row."""
        return (batch["labels"] != IGNORED).sum(1)

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Return the mean loss per learned token."""
        if self.teacher is not None:
            return self.measure(model, batch)[:, 0].sum() / self.counts(batch).sum().clamp(min=1)
        logits, labels, _ = _learned(model, batch)
        if not len(labels):
            return logits.sum()
        return functional.cross_entropy(logits, labels)

    def measure(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b k"]:
        """Return the loss of each row; with a teacher KL(teacher ‖ model) and cross-entropy too."""
        if self.teacher is None:
            logits, labels, chosen = _learned(model, batch)
            losses = functional.cross_entropy(logits, labels, reduction="none")
            return _by_row(losses, chosen)[:, None]
        with torch.no_grad():
            wanted = functional.log_softmax(_learned(self.teacher, batch)[0], dim=-1)
        logits, labels, chosen = _learned(model, batch)
        logs = functional.log_softmax(logits, dim=-1)
        gaps = functional.kl_div(logs, wanted, reduction="none", log_target=True).sum(-1)
        divergence = _by_row(gaps, chosen)
        entropy = _by_row(functional.nll_loss(logs, labels, reduction="none"), chosen)
        loss = self.distill_weight * divergence + (1 - self.distill_weight) * entropy
        return torch.stack([loss, divergence.detach(), entropy.detach()], dim=1)

    def score(self, means: dict[str, float]) -> tuple[float, ...]:
        """Return the negative loss."""
        return (-means["loss"],)


@dataclass(frozen=True, kw_only=True)
class AnswerObjective(_Taught):
    """Predict one class or some numbers for a whole sequence of tokens, or a series.

    Args:
        task: classification has cross-entropy as its loss, of one class or of several labels that
            are there or not; the others the mean squared error.
        teacher: answers as many things for the same sequences, and its answers are learned: by
            KL(teacher ‖ model) of classes, by the mean squared distance of numbers; never changed.
            None to learn from the data alone.
        distill_weight: share of the teacher in the loss, in [0, 1]; the rest is the data's own.
        hankel: weight of the Hankel penalty in the loss that is learned, ≥ 0 (`hankel_penalty`).
        weights: of the classes in the loss; empty where all count alike.
    """

    task: Task
    hankel: float = 0.0
    weights: tuple[float, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The loss, with a teacher the divergence, and accuracy or mean absolute error."""
        middle = () if self.teacher is None else ("divergence",)
        last = "accuracy" if self.task == "classification" else "absolute_error"
        return ("loss", *middle, last)

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

    def loss(self, model: nn.Module, batch: Batch) -> Float[Tensor, ""]:
        """Return the mean loss per sequence, and the Hankel penalty with its weight."""
        if self.teacher is not None:
            loss = self.measure(model, batch)[:, 0].mean()
        else:
            loss = self._losses(_answers(model, batch), batch["target"]).mean()
        if self.hankel:
            loss = loss + self.hankel * hankel_penalty(model).to(loss)
        return loss

    def measure(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b k"]:
        """Return each sequence's loss, divergence, and whether it is right or its error."""
        if self.teacher is None:
            return self._against_data(_answers(model, batch), batch["target"])
        with torch.no_grad():
            wanted = _answers(self.teacher, batch)
        answers = _answers(model, batch)
        if self.task == "classification":
            logs, wanted = (functional.log_softmax(item, dim=-1) for item in (answers, wanted))
            gaps = functional.kl_div(logs, wanted, reduction="none", log_target=True)
            divergence = gaps.sum(-1)
        else:
            divergence = (answers - wanted).square().flatten(1).mean(1)
        own = self._against_data(answers, batch["target"])
        loss = self.distill_weight * divergence + (1 - self.distill_weight) * own[:, 0]
        return torch.stack([loss, divergence.detach(), own[:, 1].detach()], dim=1)

    def score(self, means: dict[str, float]) -> tuple[float, ...]:
        """Return accuracy, and the negative loss to decide between equal ones."""
        if self.task == "classification" and self.teacher is None:
            return (means["accuracy"], -means["loss"])
        return (-means["loss"],)

    def _against_data(self, answers: Float[Tensor, "b *o"], target: Tensor) -> Tensor:
        loss = self._losses(answers, target)
        if self.task == "classification":
            return torch.stack([loss, (answers.argmax(-1) == target).to(loss.dtype)], dim=1)
        wanted = target.reshape(answers.shape)
        given = answers.detach().sigmoid() if self.task == "multi-label" else answers.detach()
        return torch.stack([loss, (given - wanted).abs().mean(-1)], dim=1)

    def _losses(self, answers: Float[Tensor, "b *o"], target: Tensor) -> Float[Tensor, "b"]:
        if self.task == "classification":
            losses = functional.cross_entropy(answers, target, reduction="none")
            return losses * answers.new_tensor(self.weights)[target] if self.weights else losses
        wanted = target.reshape(answers.shape)
        if self.task == "multi-label":
            each = functional.binary_cross_entropy_with_logits(answers, wanted, reduction="none")
        else:
            each = (answers - wanted).square()
        return each.flatten(1).mean(1)


@torch.no_grad()
def row_measures(
    model: nn.Module, objective: Objective, rows: Sequence[Any], batch_size: int
) -> Float64[Tensor, "n k"]:
    """Return what an objective measures of each row, summed over the row, and its count last."""
    device = next(model.parameters()).device
    parts = [torch.zeros(0, len(objective.names) + 1, dtype=torch.float64)]
    for start in range(0, len(rows), batch_size):
        batch = objective.collate(rows[start : start + batch_size])
        batch = {name: value.to(device) for name, value in batch.items()}
        counts = objective.counts(batch)[:, None]
        found = objective.measure(model, batch).double()
        parts.append(torch.cat([found, counts.double()], dim=1).cpu())
    return torch.cat(parts)


@torch.no_grad()
def row_answers(
    model: nn.Module, objective: Objective, rows: Sequence[Any], batch_size: int
) -> tuple[Float[Tensor, "n o"], Tensor]:
    """Return what a model answers to each row, on the CPU, and what it should."""
    device = next(model.parameters()).device
    answers, targets = [], []
    for start in range(0, len(rows), batch_size):
        batch = objective.collate(rows[start : start + batch_size])
        targets.append(batch["target"])
        moved = {name: value.to(device) for name, value in batch.items()}
        answers.append(_answers(model, moved).cpu())
    return torch.cat(answers), torch.cat(targets)


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
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits, labels = model(**inputs, use_cache=False).logits, batch["labels"]
    chosen = labels != IGNORED
    if "attention_mask" not in batch:
        # Whole windows, of which all is learned: picking what is learned would only cost.
        return logits.flatten(0, 1).float(), labels.flatten(), chosen
    return logits[chosen].float(), labels[chosen], chosen


def _answers(model: nn.Module, batch: Batch) -> Tensor:
    answers: Tensor = model(**{name: item for name, item in batch.items() if name != "target"})
    # What autocast left in half precision; a model in float64 stays there.
    return answers if answers.dtype.itemsize >= 4 else answers.float()


def _by_row(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the sum of each row's values, which stand where a row's steps are chosen."""
    return values.new_zeros(chosen.shape).masked_scatter(chosen, values).sum(1)
