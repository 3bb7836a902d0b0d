"""Criteria for selective layers by the names a command line uses."""

from __future__ import annotations

import difflib

from ssmith.core.errors import InputError
from ssmith.criteria.selective.data_free import FastestDecay, LogMagnitude, RandomEntries
from ssmith.criteria.selective.energies import OutputEnergy, StateEnergy
from ssmith.criteria.selective.gram import GramGreedy
from ssmith.criteria.selective.protocol import SelectiveCriterion
from ssmith.criteria.selective.refit import RefitGreedy
from ssmith.criteria.selective.sparsessm import SparseSSM
from ssmith.criteria.selective.votes import SparseSSMVotes

DEFAULT = "output-energy"


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
    key = name.strip().lower().replace("_", "-")
    if key not in known:
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
        raise InputError(
            f"there is no criterion {name!r} for selective layers",
            allowed=", ".join(known),
            next_step=f"did you mean {close[0]!r}?" if close else "choose one of these",
        )
    return known[key]


def selective_names() -> tuple[str, ...]:
    """Return every name that `selective_by_name` knows."""
    return tuple(_known())


def _known() -> dict[str, SelectiveCriterion]:
    return {
        DEFAULT: OutputEnergy(),
        "state-energy": StateEnergy(),
        "gram-greedy": GramGreedy(),
        "refit-greedy": RefitGreedy(),
        "sparsessm": SparseSSM(),
        "sparsessm-v1": SparseSSMVotes(),
        "fastest-decay": FastestDecay(),
        "magnitude": LogMagnitude(),
        "random": RandomEntries(),
    }
