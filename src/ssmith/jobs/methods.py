"""Methods: a criterion, and whether the read-outs of what stays are refitted on data."""

from __future__ import annotations

from dataclasses import dataclass

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

REFIT = "+refit"
AUTO = "auto"
CALIBRATION = 256
"""Training sequences that refits are fitted to, unless told otherwise."""
CANDIDATES = ("state-obs", "aire+refit", "aire", "last")
"""What ``auto`` chooses from, in order of preference where they are equally good."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a model is cut.

    Args:
        criterion: what scores the states.
        refit: refit the read-outs layer by layer on training sequences.
    """

    criterion: Criterion
    refit: bool

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        name = criterion_label(self.criterion)
        # A refit is part of State-OBS: its scores say what a state costs after one.
        return name if not self.refit or self._anew else f"{name} + refit"

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
        if not self.refit:
            return plan, None
        criterion = self.criterion if self._anew else None
        return api.refit_by_layer(model, plan, _needed(part), criterion=criterion)


def method_named(name: str, seed: int = 0) -> Method:
    """Return a method by name.

    Args:
        name: of a criterion; with ``+refit`` behind it, the read-outs are refitted.
        seed: of the random criterion.

    Returns:
        The method.

    Raises:
        InputError: if there is no such method.
    """
    key = name.strip().lower().replace("_", "-")
    found = by_name(key.removesuffix(REFIT))
    if isinstance(found, Random):
        found = Random(seed=seed, pool=found.pool)
    return Method(criterion=found, refit=key.endswith(REFIT) or isinstance(found, StateOBS))


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
