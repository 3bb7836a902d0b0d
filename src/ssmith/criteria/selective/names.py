"""Criteria for selective layers by the names a command line uses."""

from __future__ import annotations

from ssmith.core.names import spelled, unknown_name
from ssmith.criteria.selective.data_free import FastestDecay, LogMagnitude, RandomEntries
from ssmith.criteria.selective.energies import OutputEnergy, StateEnergy
from ssmith.criteria.selective.gram import GramGreedy
from ssmith.criteria.selective.protocol import SelectiveCriterion
from ssmith.criteria.selective.refit import RefitGreedy
from ssmith.criteria.selective.sparsessm import SparseSSM
from ssmith.criteria.selective.votes import SparseSSMVotes

DEFAULT = "gram-greedy"


def selective_by_name(name: str) -> SelectiveCriterion:
    """Return a criterion for selective layers with its default settings.

    Args:
        name: one of `selective_names`; case and underscores do not matter.

    Returns:
        The criterion.

    Raises:
        InputError: if there is no such criterion; lists all and suggests the closest.
    """
    known = _known()
    key = spelled(name)
    if key not in known:
        raise unknown_name(f"there is no criterion {name!r} for selective layers", key, known)
    return known[key]


def selective_names() -> tuple[str, ...]:
    """Return every name that `selective_by_name` knows."""
    return tuple(_known())


def _known() -> dict[str, SelectiveCriterion]:
    return {
        "output-energy": OutputEnergy(),
        "state-energy": StateEnergy(),
        "gram-greedy": GramGreedy(),
        "refit-greedy": RefitGreedy(),
        "sparsessm": SparseSSM(),
        "sparsessm-v1": SparseSSMVotes(),
        "fastest-decay": FastestDecay(),
        "magnitude": LogMagnitude(),
        "random": RandomEntries(),
    }
