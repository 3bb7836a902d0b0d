"""How projections are pruned."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ssmith.core.checks import check_choice, check_number
from ssmith.core.errors import InputError
from ssmith.core.pattern import Amount, Pattern, amount_as_json
from ssmith.criteria.weights import OBS, RandomWeights, Wanda, WeightCriterion, WeightMagnitude
from ssmith.families.mamba.units import PROJECTIONS

Method = Literal["obs", "sparsegpt", "wanda", "magnitude", "random"]
Allocation = Literal[
    "spare-conv", "uniform", "local", "sensitivity", "sensitivity-trace", "measured"
]
Refresh = Literal["projection", "block"]
Activations = Literal["fresh", "released"]


@dataclass(frozen=True, kw_only=True)
class ProjectionConfig:
    """What is removed from in_proj, conv1d, x_proj, dt_proj and out_proj, and by what.

    Args:
        amount: fraction of their weights to remove, in (0, 1), or N of M neighbouring inputs to
            keep.
        targets: which of them are cut.
        method: ``obs`` (weights make up for removed ones, then a refit), ``sparsegpt`` (the same
            as published, without refit), ``wanda``, ``magnitude`` or ``random``.
        allocation: ``spare-conv``: conv1d, whose few weights cost the most, stays whole and the
            others lose as much more; ``uniform``; where the relative error of the projections'
            own outputs rises least (``local``); by ``sensitivity`` of in_proj and of out_proj as
            SparseSSM's code does, or with the true trace (``sensitivity-trace``); or where the
            ``measured`` loss on held-out calibration windows rises least, which takes the longest.
        width: α of the allocation by sensitivity, ≥ 0.
        refresh: look at the inputs again after every ``projection`` that was cut, or once per
            ``block``.
        activations: ``fresh``, or ``released``: as SparseSSM's released code, which prunes
            projections on the inputs that the model's own last output makes, and treats the
            convolution as a dense matrix; for comparison only.
        damp: damping of the second moments, as a share of their mean diagonal, > 0.
        seed: of the random method.

    Raises:
        InputError: if a value is outside its domain, or two do not go together.
    """

    amount: Amount
    targets: tuple[str, ...] = PROJECTIONS
    method: Method = "obs"
    allocation: Allocation = "spare-conv"
    width: float = 0.04
    refresh: Refresh = "projection"
    activations: Activations = "fresh"
    damp: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.amount, Pattern):
            check_number("projections", self.amount, above=0, below=1)
        for target in self.targets:
            check_choice("target", target, PROJECTIONS)
        if not self.targets:
            raise InputError("no projection is to be cut", allowed=", ".join(PROJECTIONS))
        check_choice("projection method", self.method, get_args(Method))
        check_choice("allocation", self.allocation, get_args(Allocation))
        check_choice("refresh", self.refresh, get_args(Refresh))
        check_choice("activations", self.activations, get_args(Activations))
        check_number("width", self.width, at_least=0)
        if isinstance(self.amount, Pattern) and self.allocation not in ("spare-conv", "uniform"):
            raise InputError(
                f"allocation {self.allocation!r} with the pattern {self.amount}",
                allowed="spare-conv or uniform: a pattern is the same everywhere",
            )
        if self.spares and self.targets == ("conv1d",):
            raise InputError(
                "conv1d alone is to be cut, and allocation 'spare-conv' leaves it whole",
                allowed="allocation uniform",
            )
        self.criterion()

    @property
    def spares(self) -> bool:
        """Whether conv1d is left whole although it counts."""
        return self.allocation == "spare-conv" and "conv1d" in self.targets

    def criterion(self) -> WeightCriterion:
        """Return what cuts one projection."""
        made: dict[str, WeightCriterion] = {
            "obs": OBS(damp=self.damp),
            "sparsegpt": OBS(damp=self.damp, refit=0),
            "wanda": Wanda(),
            "magnitude": WeightMagnitude(),
            "random": RandomWeights(seed=self.seed),
        }
        return made[self.method]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {**asdict(self), "amount": amount_as_json(self.amount), "targets": [*self.targets]}
