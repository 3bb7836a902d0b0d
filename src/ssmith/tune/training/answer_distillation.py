"""Learning to answer for whole sequences as a teacher does, and to some share as the data does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from ssmith.core.checks import check_number
from ssmith.core.sequences import Task
from ssmith.tune.training.objectives import AnswerObjective, Batch


@dataclass(frozen=True, kw_only=True)
class AnswerDistillation:
    """Answer as a teacher answers, and to some share as the data does.

    The divergence is KL(teacher ‖ model) of classes, and the mean squared distance of numbers.

    Args:
        teacher: gives as many answers for the same sequences; never changed.
        task: see `AnswerObjective`.
        weight: share of the teacher in the loss, in [0, 1]; the rest is the data's own loss.

    Raises:
        InputError: if the weight is outside its domain.
    """

    teacher: nn.Module
    task: Task
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_number("weight", self.weight, at_least=0, below=1 + 1e-9)
        self.teacher.requires_grad_(requires_grad=False).eval()

    @property
    def names(self) -> tuple[str, ...]:
        """The loss, the divergence, and accuracy or mean absolute error."""
        return ("loss", "divergence", self._own.names[1])

    def collate(self, rows: Sequence[Any]) -> Batch:
        """Return rows as `AnswerObjective` does."""
        return self._own.collate(rows)

    def counts(self, batch: Batch) -> Int64[Tensor, "b"]:
        """Return 1 for each sequence."""
        return self._own.counts(batch)

    def measure(self, model: nn.Module, batch: Batch) -> Float[Tensor, "b 3"]:
        """Return each sequence's loss, divergence, and whether it is right or its error."""
        given = {name: value for name, value in batch.items() if name != "target"}
        with torch.no_grad():
            wanted = self.teacher(**given).float()
        found = model(**given).float()
        if self.task == "classification":
            own_logs, logs = (functional.log_softmax(item, dim=-1) for item in (found, wanted))
            divergence = functional.kl_div(own_logs, logs, reduction="none", log_target=True)
            divergence = divergence.sum(-1)
        else:
            divergence = (found - wanted).square().flatten(1).mean(1)
        own = self._own.measure_answers(found, batch["target"])
        loss = self.weight * divergence + (1 - self.weight) * own[:, 0]
        return torch.stack([loss, divergence.detach(), own[:, 1].detach()], dim=1)

    def score(self, means: dict[str, float]) -> tuple[float, ...]:
        """Return the negative loss."""
        return (-means["loss"],)

    @property
    def _own(self) -> AnswerObjective:
        return AnswerObjective(task=self.task)
