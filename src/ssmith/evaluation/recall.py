"""How much of what stood far back a language model still knows, answer by answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from ssmith.core.recall import RecallRows
from ssmith.core.sections import TaskQuality
from ssmith.core.trees import place_of
from ssmith.evaluation.comparison import Comparison
from ssmith.evaluation.intervals import Estimate
from ssmith.evaluation.metrics import Metric, Outcomes
from ssmith.evaluation.perplexity import check_vocabulary
from ssmith.evaluation.task import Task
from ssmith.evaluation.verbs import compare, evaluate
from ssmith.families.hf import engine
from ssmith.families.hf.head import read_out

RECALL = Metric(
    name="recall", higher_is_better=True, proportion=True, counted="texts", weighed="answers"
)


def _outcomes(model: nn.Module, part: RecallRows) -> Outcomes:
    """Return how many answers of each text are right; of one answer per text, whether it is.

    An answer is right where each of its tokens has the largest score after the right ones before
    it, which is what writing it greedily amounts to.
    """
    check_vocabulary(model, part)
    device = place_of(model)
    ids, answers = part.ids.to(device), part.answers.to(device)
    valid = torch.arange(ids.shape[1], device=device) < part.lengths.to(device)[:, None]
    hidden, head = read_out(model, ids, None if bool(valid.all()) else valid)
    wanted = answers[:, 1:] > 0
    right = head(hidden[:, :-1][wanted]).argmax(-1) == ids[:, 1:][wanted]
    row = wanted.nonzero()[:, 0]
    # The least over the tokens of an answer, which are numbered through all texts.
    number = row * (part.asked + 1) + answers[:, 1:][wanted]
    whole = torch.ones(len(ids) * (part.asked + 1), device=device)
    whole.scatter_reduce_(0, number, right.float(), "amin")
    seen = whole.reshape(len(ids), -1)[:, 1:].double().cpu()
    if part.asked == 1:
        return Outcomes(numerator=seen[:, 0])
    return Outcomes(numerator=seen.sum(1), weight=torch.full_like(seen[:, 0], part.asked))


RECALL_TASK = Task(metric=RECALL, outcomes=_outcomes, around=engine)


def recall_of(
    model: nn.Module, rows: Mapping[str, RecallRows], *, batch_size: int | None = None
) -> dict[str, Estimate]:
    """Return the share of answers that a model gives right, by task."""
    return {
        name: evaluate(model, part, RECALL_TASK, batch_size=batch_size)
        for name, part in rows.items()
    }


def compare_recall(
    before: nn.Module,
    after: nn.Module,
    rows: Mapping[str, RecallRows],
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> dict[str, Comparison]:
    """Compare what two models recall, on the same texts, by task."""
    return {
        name: compare(before, after, part, RECALL_TASK, seed=seed, batch_size=batch_size)
        for name, part in rows.items()
    }


def recall_section(found: Mapping[str, Comparison], length: int) -> tuple[TaskQuality, ...]:
    """Return comparisons of recall as a receipt holds them, one row for each task."""
    return tuple(
        TaskQuality(
            task=name,
            metric=RECALL.name,
            length=length,
            count=item.count,
            before=item.before.value,
            after=item.after.value,
            difference=replace(item.difference.section(told=True), level=item.difference.level),
        )
        for name, item in found.items()
    )
