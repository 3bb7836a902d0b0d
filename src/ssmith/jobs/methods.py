"""Methods: a criterion, and whether the read-outs of what stays are refitted on data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ssmith import api
from ssmith.core.budget import Budget
from ssmith.core.compensation import Compensation
from ssmith.core.errors import InputError
from ssmith.core.plan import Plan
from ssmith.core.scores import Scores
from ssmith.core.seeds import generator
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.criteria import Criterion, Random, StateOBS, by_name, criterion_label

AUTO = "auto"
Refit = Literal["none", "at once", "by layer"]
SUFFIXES: dict[str, Refit] = {"+refit-once": "at once", "+refit": "by layer"}
CALIBRATION = 256
"""Training sequences that refits are fitted to, unless told otherwise."""
CANDIDATES = ("state-obs", "state-obs+refit-once", "aire+refit", "aire", "last")
"""What ``auto`` chooses from, in order of preference where they are equally good."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a model is cut.

    Args:
        criterion: what scores the states.
        refit: refit the read-outs of what stays on training sequences: not, all layers at once
            on what the dense model does, or layer by layer on what the cut layers hand on.
    """

    criterion: Criterion
    refit: Refit

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        name = criterion_label(self.criterion)
        if self.refit == "at once":
            return f"{name} + refit at once"
        # A refit is part of State-OBS: its scores say what a state costs after one.
        return name if self.refit == "none" or self._anew else f"{name} + refit"

    @property
    def _anew(self) -> bool:
        """Whether states are chosen again in each layer, on what the cut layers hand on."""
        return isinstance(self.criterion, StateOBS)

    def score(self, model: nn.Module, part: Sequences | None) -> Scores:
        """Score the states of a model.

        Args:
            model: the dense model; it is not changed.
            part: calibration sequences, where the method needs them.

        Returns:
            Its scores.

        Raises:
            InputError: if sequences are needed and there are none.
        """
        if not self.criterion.needs:
            return api.score(model, self.criterion)
        return api.score(model, self.criterion, api.moments(model, _needed(part)))

    def decide(
        self, model: nn.Module, scores: Scores, budget: Budget, part: Sequences | None
    ) -> tuple[Plan, Compensation | None]:
        """Return what stays, and the read-outs that go with it.

        Args:
            model: the dense model; it is not changed.
            scores: of that model.
            budget: how much to remove.
            part: calibration sequences, where the method needs them.

        Returns:
            The plan, and its compensation or None.

        Raises:
            InputError: if sequences are needed and there are none.
            PlanError: if the budget cannot be met.
            NumericalError: if a refit does not give finite numbers.
        """
        plan = api.decide(scores, budget, model)
        if self.refit == "none":
            return plan, None
        if self.refit == "at once":
            return plan, api.refit(model, plan, api.moments(model, _needed(part)))
        criterion = self.criterion if self._anew else None
        return api.refit_by_layer(model, plan, _needed(part), criterion=criterion)


def method_named(name: str, seed: int = 0) -> Method:
    """Return a method by name.

    Args:
        name: of a criterion; with ``+refit`` behind it, read-outs are refitted layer by layer,
            with ``+refit-once`` all at once. State-OBS refits layer by layer unless told.
        seed: of the random criterion.

    Returns:
        The method.

    Raises:
        InputError: if there is no such method.
    """
    key = name.strip().lower().replace("_", "-")
    suffix = next((end for end in SUFFIXES if key.endswith(end)), "")
    found = by_name(key.removesuffix(suffix))
    if isinstance(found, Random):
        found = Random(seed=seed, pool=found.pool)
    usual: Refit = "by layer" if isinstance(found, StateOBS) else "none"
    return Method(criterion=found, refit=SUFFIXES.get(suffix, usual))


def calibration(data: SequenceData, count: int = CALIBRATION, seed: int = 0) -> Sequences:
    """Return some training sequences, drawn without replacement.

    Args:
        data: its training split is drawn from.
        count: how many; all if there are fewer.
        seed: of the draw.

    Returns:
        The sequences.
    """
    train = data.split("train")
    order = torch.randperm(len(train), generator=generator(seed, "calibration"))
    return train.take(order[:count].to(train.x.device))


def _needed(part: Sequences | None) -> Sequences:
    if part is None:
        raise InputError(
            "this method refits read-outs on sequences and there are none",
            next_step="give it data with a train split",
        )
    return part
