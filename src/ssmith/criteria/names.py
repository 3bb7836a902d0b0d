"""Criteria by the names that users say, for each kind of thing that is scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Literal, TypeVar

from ssmith.core.errors import InputError
from ssmith.core.names import spelled, unknown_name
from ssmith.criteria.aire import AIRE
from ssmith.criteria.experts import REAP, ExpertEnergy, ExpertUse
from ssmith.criteria.grouped import (
    GHOST,
    BalancedGroups,
    GroupActivity,
    GroupEnergy,
    GroupGreedy,
    UniQL,
)
from ssmith.criteria.hinf import Hinf
from ssmith.criteria.lamp import LAMP
from ssmith.criteria.last import LAST
from ssmith.criteria.magnitude import Magnitude
from ssmith.criteria.outputs import ColumnEnergy, ColumnOBS, Minitron
from ssmith.criteria.random import Random
from ssmith.criteria.selective import (
    FastestDecay,
    GramGreedy,
    LogMagnitude,
    OutputEnergy,
    RandomEntries,
    RefitGreedy,
    SparseSSM,
    SparseSSMVotes,
    StateEnergy,
)
from ssmith.criteria.state_obs import StateOBS
from ssmith.criteria.weights import OBS, RandomWeights, Wanda, WeightMagnitude

T = TypeVar("T")
Kind = Literal["lti", "selective", "grouped", "output", "expert", "weight"]
KINDS: Mapping[Kind, str] = {
    "lti": "states of S5 and S4D",
    "selective": "states and entries of selective layers",
    "grouped": "states of Mamba-2's groups",
    "output": "heads, their channels, neurons and attention groups",
    "expert": "experts of mixtures",
    "weight": "weights",
}
"""What is scored, in words."""
_KNOWN: Mapping[Kind, Mapping[str, Any]] = {
    "lti": {
        "last": LAST(),
        "aire": AIRE(),
        "hinf-uniform": Hinf(pool="layer"),
        "hinf-global": Hinf(pool="model"),
        "magnitude-uniform": Magnitude(pool="layer"),
        "magnitude-global": Magnitude(pool="model"),
        "lamp": LAMP(),
        "random": Random(),
        "state-obs": StateOBS(weigh="sensitivity"),
    },
    "selective": {
        "output-energy": OutputEnergy(),
        "state-energy": StateEnergy(),
        "gram-greedy": GramGreedy(),
        "refit-greedy": RefitGreedy(),
        "sparsessm": SparseSSM(),
        "sparsessm-v1": SparseSSMVotes(),
        "fastest-decay": FastestDecay(),
        "magnitude": LogMagnitude(),
        "random": RandomEntries(),
    },
    "grouped": {
        "balanced": BalancedGroups(),
        "gram-greedy": GroupGreedy(),
        "output-energy": GroupEnergy(),
        "ghost": GHOST(),
        "uniql": UniQL(),
        "state-energy": GroupActivity(),
    },
    "output": {"obs": ColumnOBS(), "output-energy": ColumnEnergy(), "minitron": Minitron()},
    "expert": {"reap": REAP(), "output-energy": ExpertEnergy(), "use": ExpertUse()},
    "weight": {
        "obs": OBS(),
        "sparsegpt": OBS(refit=0),
        "wanda": Wanda(),
        "magnitude": WeightMagnitude(),
        "random": RandomWeights(),
    },
}


def by_name(name: str, kind: Kind = "lti") -> Any:
    """Return a criterion of a kind with its default settings, a frozen dataclass.

    Case and underscores do not matter. Raises `InputError` if there is none of that name; lists all
    and suggests the closest.
    """
    known, key = _KNOWN[kind], spelled(name)
    if key not in known:
        raise unknown_method(name, KINDS[kind], known)
    return known[key]


def unknown_method(name: str, of: str, known: Iterable[str]) -> InputError:
    """Return the error of a method that there is not, or that is one for something else."""
    said, key, there = f"there is no method {name!r} for {of}", spelled(name), list(known)
    others = [KINDS[kind] for kind, methods in _KNOWN.items() if key in methods]
    if others:
        step = f"{key} is a method for {' and for '.join(others)}: cut these, or choose another one"
        return InputError(said, allowed=", ".join(there), next_step=step)
    return unknown_name(said, key, there)


def with_settings(criterion: T, name: str, settings: Mapping[str, Any], seed: int) -> T:
    """Return a criterion with some settings changed; one that draws takes the seed."""
    # A criterion is a dataclass by convention; the protocols cannot say so.
    known = [item.name for item in fields(criterion)]  # type: ignore[arg-type]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise unknown_name(
            f"{name} has no setting {', '.join(unknown)}", unknown[0], sorted(known) or ["none"]
        )
    drawn = {"seed": seed} if "seed" in known else {}
    return replace(criterion, **{**drawn, **settings})  # type: ignore[type-var]


def names(kind: Kind = "lti") -> tuple[str, ...]:
    """Return every name that `by_name` knows for a kind."""
    return tuple(_KNOWN[kind])
