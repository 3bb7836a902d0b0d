"""Whole blocks, removed one after the other where the calibration rows miss them least."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssmith.core.budget import AUTO, NONE, Budget
from ssmith.core.errors import InputError
from ssmith.core.plan import Cut
from ssmith.core.progress import Progress
from ssmith.core.words import number_of, span
from ssmith.families import chain_of, without_block
from ssmith.spine.decided import Decided
from ssmith.spine.trials import Trials

BLOCK = "block"


def plan_blocks(
    model: nn.Module,
    budget: Budget,
    loss: Callable[[nn.Module], float],
    *,
    identity: Mapping[str, Any] | None = None,
    work_dir: Path | None = None,
    progress: Progress,
) -> Decided:
    """Decide which blocks of a model go, each time the one that is missed least.

    Every block that is left is tried; the one without which the loss is lowest goes, until enough
    have gone.

    The loss is of a model on calibration rows, never those that it is judged on. A working
    directory keeps every measured loss under the identity of what they depend on, and the pass
    goes on from it.

    Source: Mamba-Shedder, whole blocks.
    Differs: rows are drawn from a training split; its released code reads the test split.
    """
    _check(budget)
    name, total = chain_of(model).name, chain_of(model).coupling(BLOCK).count
    wanted = budget.removed_of(total)
    if not 1 <= wanted < total:
        raise InputError(
            f"{number_of(wanted, 'block')} of {total} are to go",
            allowed=f"{span(1, total - 1)}, as one stays"
            if total > 1
            else "a model of two or more",
        )
    work, names = copy.deepcopy(model), list(range(total))
    trials = Trials.open(work_dir, identity or {})

    def measured(gone: Sequence[int]) -> float:
        return trials.loss(gone, lambda: loss(work))

    steps: list[dict[str, Any]] = [{"loss": measured(())}]
    tries, done = sum(total - gone for gone in range(wanted)), 0
    for _ in range(wanted):
        gone = [step["removed"] for step in steps[1:]]
        losses = []
        for place, block in enumerate(names):
            progress("trying blocks", done, tries, f"block {block}")
            with without_block(work, place):
                losses.append(measured([*gone, block]))
            done += 1
        least = min(range(len(losses)), key=losses.__getitem__)
        site = chain_of(work)
        site.cut_(site.coupling(BLOCK), torch.arange(len(names)) != least)
        steps.append({"removed": names.pop(least), "loss": losses[least]})
    progress("trying blocks", tries, tries, "")
    keep = torch.zeros(total, dtype=torch.bool)
    keep[names] = True
    cut = Cut(
        unit=BLOCK, keep={name: keep}, method={"name": "loss", "label": "Blocks by loss"},
        budget=budget.as_dict(),
    )  # fmt: skip
    return Decided(cuts=(cut,), facts={"steps": steps})


def _check(budget: Budget) -> None:
    """Refuse what a removal of blocks has no meaning for."""
    for name, given, allowed in (
        ("method", budget.method not in (AUTO, "loss"), "auto, loss"),
        ("settings", bool(budget.settings), "none"),
        ("scope", budget.scope != AUTO, "auto"),
        ("targets", bool(budget.targets), "none"),
        ("min_per_layer", budget.min_per_layer > 0, "0"),
        ("compensate", budget.compensate not in (AUTO, NONE), "auto, none"),
        ("semantics", budget.semantics not in (None, "remove"), "remove"),
    ):
        if given:
            raise InputError(f"{name} is {getattr(budget, name)!r} for blocks", allowed=allowed)
