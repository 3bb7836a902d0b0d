"""Methods: a criterion, and what of the states that stay is refitted on data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from ssmith import api
from ssmith.allocate import by_measured_loss
from ssmith.calibrate import LayerOutputs, outputs_of
from ssmith.core.budget import Budget
from ssmith.core.compensation import Compensation, Poles, RefitConfig
from ssmith.core.errors import InputError
from ssmith.core.moments import Moments
from ssmith.core.plan import Plan
from ssmith.core.scores import Scores
from ssmith.core.seeds import generator
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.criteria import Criterion, Random, StateOBS, by_name, criterion_label
from ssmith.families import SequenceModel
from ssmith.jobs.by_layer import BATCH_SIZE, refit_by_layer
from ssmith.jobs.measured import loss_curves

AUTO = "auto"
Refit = Literal["none", "at once", "by layer", "in full"]
SUFFIXES: dict[str, Refit] = {
    "+no-refit": "none",
    "+refit-once": "at once",
    "+refit-full": "in full",
    "+refit": "by layer",
}
BY_LOSS = "+by-loss"
REDUCTIONS: dict[str, tuple[Poles, str]] = {
    "balanced": ("balanced", "Balanced truncation"),
    "singular-perturbation": ("perturbation", "Singular perturbation"),
    "h2-optimal": ("h2", "H2-optimal"),
}
"""Methods that move the eigenvalues; State-OBS says how many states each layer keeps."""
CALIBRATION = 256
"""Training sequences that refits are fitted to, unless told otherwise."""
ROUNDS = 2
"""How often a full refit goes from input rows to read-out."""
CANDIDATES = ("state-obs", "balanced", "aire", "last")
"""What ``auto`` chooses from, in order of preference where they are equally good."""
AUTO_WITHOUT_DATA = "auto-data-free"
CANDIDATES_WITHOUT_DATA = ("aire", "last")
"""What ``auto`` chooses from where there are no training sequences."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a method knows of a dense model, whatever is then cut: computed once for all ratios.

    Args:
        scores: of its states.
        moments: of its layers, where the method reads any.
        sensitivity: of its outputs to each layer's, where the method weighs by it.
        outputs: of its layers, where the method refits layer by layer.
    """

    scores: Scores
    moments: dict[str, Moments] | None = None
    sensitivity: dict[str, Float64[Tensor, "m m"]] | None = None
    outputs: LayerOutputs | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a model is cut.

    Args:
        criterion: what scores the states.
        refit: refit what stays on training sequences: not; the read-outs of all layers at once, on
            what the dense model does; the read-outs layer by layer, on what the cut layers hand
            on; or in full: layer by layer, input rows and D as well.
        poles: whether a layer is reduced by projection first (see `RefitConfig`).
        measured: share the budget out over layers by what cutting each one alone was measured to
            do, in place of the scores.
    """

    criterion: Criterion
    refit: Refit
    poles: Poles = "kept"
    measured: bool = False

    @property
    def label(self) -> str:
        """Name for plots and tables."""
        if self.measured:
            return replace(self, measured=False).label + ", measured loss"
        if self.poles != "kept":
            return dict(REDUCTIONS.values())[self.poles]
        name = criterion_label(self.criterion)
        usual = _usual_refit(self.criterion)
        endings = {
            "none": " without refit",
            "at once": " + refit at once",
            "by layer": " + refit",
            "in full": " + full refit",
        }
        return name if self.refit == usual else name + endings[self.refit]

    @property
    def config(self) -> RefitConfig:
        """What is refitted."""
        full = self.refit == "in full"
        return RefitConfig(direct=full, rounds=ROUNDS if full else 0, poles=self.poles)

    @property
    def needs_data(self) -> bool:
        """Whether training sequences are needed."""
        return self.measured or self.refit != "none" or bool(self.criterion.needs)

    def prepare(self, model: SequenceModel, part: Sequences | None) -> Prepared:
        """Score the states of a model, and keep what was measured for it.

        Args:
            model: the dense model; it is not changed.
            part: calibration sequences, where the method needs them.

        Returns:
            What `decide` needs.

        Raises:
            InputError: if sequences are needed and there are none.
        """
        needs, outputs = self.criterion.needs, None
        if self.refit in ("by layer", "in full"):
            outputs = outputs_of(model, _needed(part), BATCH_SIZE)
        slopes = api.sensitivity(model, _needed(part)) if "sensitivity" in needs else None
        if not needs and not self.measured and self.refit != "at once":
            return Prepared(scores=api.score(model, self.criterion), outputs=outputs)
        moments = api.moments(model, _needed(part), sensitivity=slopes)
        scores = api.score(model, self.criterion, moments)
        if self.measured:
            scores = by_measured_loss(scores, loss_curves(model, scores, moments, _needed(part)))
        return Prepared(scores=scores, moments=moments, sensitivity=slopes, outputs=outputs)

    def decide(
        self, model: nn.Module, prepared: Prepared, budget: Budget, part: Sequences | None
    ) -> tuple[Plan, Compensation | None]:
        """Return what stays, and the values that go with it.

        Args:
            model: the dense model; it is not changed.
            prepared: of that model.
            budget: how much to remove.
            part: calibration sequences, where the method needs them.

        Returns:
            The plan, and its compensation or None.

        Raises:
            InputError: if sequences are needed and there are none.
            PlanError: if the budget cannot be met.
            NumericalError: if a refit does not give finite numbers.
        """
        plan = api.decide(prepared.scores, budget, model)
        if self.refit == "none":
            return plan, None
        if self.refit == "at once":
            moments = prepared.moments or api.moments(model, _needed(part))
            return plan, api.refit(model, plan, moments)
        # States are chosen again in each layer, on what the cut layers hand on.
        anew = self.criterion if isinstance(self.criterion, StateOBS) else None
        return refit_by_layer(
            model,
            plan,
            _needed(part),
            self.config,
            criterion=anew,
            sensitivity=prepared.sensitivity,
            wanted=prepared.outputs,
        )


def method_named(name: str, seed: int = 0) -> Method:
    """Return a method by name.

    Args:
        name: of a criterion, as it is. Behind it ``+refit`` refits read-outs layer by layer,
            ``+refit-once`` all at once, ``+refit-full`` layer by layer with input rows and D,
            ``+no-refit`` nothing; State-OBS refits in full unless told. ``+by-loss`` at the very
            end shares the budget out over layers by measured loss. Or a reduction by projection:
            balanced, singular-perturbation, h2-optimal.
        seed: of the random criterion.

    Returns:
        The method.

    Raises:
        InputError: if there is no such method.
    """
    key = name.strip().lower().replace("_", "-")
    if key.endswith(BY_LOSS):
        return replace(method_named(key.removesuffix(BY_LOSS), seed), measured=True)
    if key in REDUCTIONS:
        return Method(criterion=by_name("state-obs"), refit="in full", poles=REDUCTIONS[key][0])
    suffix = next((end for end in SUFFIXES if key.endswith(end)), "")
    found = by_name(key.removesuffix(suffix))
    if isinstance(found, Random):
        found = Random(seed=seed, pool=found.pool)
    return Method(criterion=found, refit=SUFFIXES.get(suffix, _usual_refit(found)))


def _usual_refit(criterion: Criterion) -> Refit:
    """Return the refit that goes without saying: State-OBS scores a state by its cost after one."""
    return "in full" if isinstance(criterion, StateOBS) else "none"


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
