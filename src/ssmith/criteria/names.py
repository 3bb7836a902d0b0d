"""Criteria by the names a command line uses."""

from __future__ import annotations

from ssmith.core.names import spelled, unknown_name
from ssmith.criteria.aire import AIRE
from ssmith.criteria.hinf import Hinf
from ssmith.criteria.lamp import LAMP
from ssmith.criteria.last import LAST
from ssmith.criteria.magnitude import Magnitude
from ssmith.criteria.protocol import Criterion
from ssmith.criteria.random import Random
from ssmith.criteria.state_obs import StateOBS


def by_name(name: str) -> Criterion:
    """Return a criterion with its default settings.

    Args:
        name: one of last, aire, hinf-uniform, hinf-global, magnitude-uniform, magnitude-global,
            lamp, random, state-obs; case and underscores do not matter.

    Returns:
        The criterion.

    Raises:
        InputError: if there is no such criterion; lists all and suggests the closest.
    """
    known = _known()
    key = spelled(name)
    if key not in known:
        raise unknown_name(f"there is no criterion {name!r}", key, known)
    return known[key]


def criterion_names() -> tuple[str, ...]:
    """Return every name that `by_name` knows."""
    return tuple(_known())


def _known() -> dict[str, Criterion]:
    return {
        "last": LAST(),
        "aire": AIRE(),
        "hinf-uniform": Hinf(pool="layer"),
        "hinf-global": Hinf(pool="model"),
        "magnitude-uniform": Magnitude(pool="layer"),
        "magnitude-global": Magnitude(pool="model"),
        "lamp": LAMP(),
        "random": Random(),
        "state-obs": StateOBS(weigh="sensitivity"),
    }


def criterion_label(criterion: Criterion) -> str:
    """Return the name of a criterion for plots and tables, e.g. ``"Uniform H∞"``."""
    return criterion.label
