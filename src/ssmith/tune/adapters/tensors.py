"""Tuning of the model's own parameters: named ones, biases (BitFit), or all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from ssmith.core.checks import check_choice
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.tune.adapters.method import Method
from ssmith.tune.adapters.part import Alias, Placement, TensorPart
from ssmith.tune.adapters.pruned import kept
from ssmith.tune.adapters.survey import Survey, is_below, matching

_PROJECTIONS = ("in_proj", "out_proj")


@dataclass(frozen=True, kw_only=True)
class Parameters(Method):
    """Trains parameters of the model by name: ``A_log``, ``D``, ``dt_bias``, ``conv1d``, a head.

    The base keeps its values: what trains is a copy in full precision that stands in their place
    while the adapter is active.

    Args:
        targets: names of parameters, or of modules for all of theirs: whole dotted names, their
            last parts, or patterns with ``*``.
    """

    method: ClassVar[str] = "parameters"
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        check_targets(self.targets)

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        return _sites(survey, _named(survey, self.targets), self.method)


@dataclass(frozen=True, kw_only=True)
class BitFit(Method):
    """Trains biases alone.

    Args:
        targets: modules whose biases are trained; None for the family's: of the convolution and
            of the step size in selective layers, all biases inside layers of S5 and S4D models.

    Source: BitFit (arXiv 2106.10199); the choice for Mamba is that of arXiv 2503.03499.
    Differs: Mamba-2 keeps the bias of its step size as a parameter, ``dt_bias``.
    """

    method: ClassVar[str] = "bitfit"
    targets: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.targets is not None:
            check_targets(self.targets)

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        names = list(survey.parameters())
        if self.targets is None:
            chosen = [name for name in names if _is_default_bias(survey, name)]
        else:
            biases = [name for name in names if _is_bias(name)]
            owners = [name.removesuffix(".bias") for name in biases]
            chosen = []
            for target in self.targets:
                means = set(matching(target, owners, "module with a bias"))
                chosen += [b for b, owner in zip(biases, owners, strict=True) if owner in means]
        if not chosen:
            raise UnsupportedError(
                f"bitfit on {type(survey.model).__name__}: its layers have no bias",
                allowed="models with a bias on the convolution or the step size",
                next_step="use state-offset-y, a bias where there was none",
            )
        return _sites(survey, chosen, self.method)


@dataclass(frozen=True, kw_only=True)
class FullFineTuning(Method):
    """Trains all parameters, or those of the state space part alone.

    Args:
        scope: ``"all"``, or ``"ssm"``: A_log, D, the convolution and the projections to Δ, B and
            C, without what goes into and out of the layer.

    Source: State-offset Tuning (arXiv 2503.03499), its rivals "full fine-tuning (all, S6)".
    Differs: the base is kept beside the trained copy, so that the adapter can be switched off.
    """

    method: ClassVar[str] = "full"
    named: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "full": {"scope": "all"},
        "full-ssm": {"scope": "ssm"},
    }
    scope: Literal["all", "ssm"] = "all"

    def __post_init__(self) -> None:
        check_choice("scope", self.scope, ("all", "ssm"))

    def label(self) -> str:
        return "full" if self.scope == "all" else "full-ssm"

    def stored(self, survey: Survey) -> int:
        if self.scope == "ssm":
            return super().stored(survey)
        # Its parts are copies.
        return sum(parameter.numel() for parameter in survey.parameters().values())

    def sites(self, survey: Survey, draw: torch.Generator) -> list[Placement]:
        names = list(survey.parameters())
        if self.scope == "ssm":
            inside = [*survey.mixers, *survey.lti]
            names = [
                name
                for name in names
                if any(is_below(name, layer) for layer in inside)
                and not set(name.split(".")) & set(_PROJECTIONS)
            ]
        if not names:
            raise UnsupportedError(
                f"{self.label()} on {type(survey.model).__name__}: it has no such parameter",
                allowed="models with state space layers the engine runs",
            )
        return _sites(survey, names, self.label())


def check_targets(targets: object) -> None:
    """Raise `InputError` unless targets are a tuple of names, at least one."""
    if not isinstance(targets, tuple) or not targets:
        raise InputError(f"targets is {targets!r}", allowed="a list of at least one name")


def _sites(survey: Survey, names: Iterable[str], label: str) -> list[Placement]:
    found, seen = [], set()
    for name in names:
        owner, _, parameter = name.rpartition(".")
        module = survey.modules[owner]
        base: Any = module._parameters[parameter]
        if id(base) in seen:
            continue
        seen.add(id(base))
        part = TensorPart(parameter, label, base, kept(module, parameter))
        found.append(_site(owner, label, part))
        for other in survey.tied(name):
            owner, _, parameter = other.rpartition(".")
            found.append(_site(owner, label, Alias(parameter, part)))
    return found


def _site(owner: str, label: str, part: TensorPart) -> Placement:
    key = f"{label.replace('-', '_')}_{part.parameter}"
    return Placement(owner=owner, key=key, part=part)


def _named(survey: Survey, targets: tuple[str, ...]) -> list[str]:
    """Return the parameters that targets mean: themselves, or all of a module's."""
    names = [name for name, _ in survey.all_parameters()]
    owners = {name.rpartition(".")[0] for name in names}
    above = {
        ".".join(o.split(".")[:depth]) for o in owners for depth in range(1, o.count(".") + 2)
    } - {""}
    found: dict[str, None] = {}
    for target in targets:
        for hit in matching(target, [*names, *sorted(above)], "parameter or module"):
            found |= dict.fromkeys(name for name in names if is_below(name, hit))
    return list(found)


def _is_bias(name: str) -> bool:
    return name.endswith(".bias") or name.rpartition(".")[2] in ("bias", "dt_bias")


def _is_default_bias(survey: Survey, name: str) -> bool:
    if not _is_bias(name):
        return False
    if survey.mixers:
        place = name.removesuffix(".bias").rpartition(".")[2]
        inside = any(is_below(name, mixer) for mixer in survey.mixers)
        return inside and place in ("conv1d", "dt_proj", "dt_bias")
    return survey.layer_of(name) is not None
