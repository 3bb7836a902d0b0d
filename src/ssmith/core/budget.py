"""Budget: what fraction of which unit may be removed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import InputError

Ties = Literal["exact", "keep"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Fractions to remove, each in [0, 1).

    Args:
        states: fraction of all states of the model to remove.
        min_per_layer: keep at least this many units in every layer, taken within the same budget.
        ties: ``"exact"`` removes exactly the budget and breaks equal scores by layer order and
            index; ``"keep"`` keeps every unit that ties with the threshold, as LAST's released
            code does (``score ≥ τ``), and may then remove fewer.

    Raises:
        InputError: if a value is outside its domain.
    """

    states: float
    min_per_layer: int = 0
    ties: Ties = "exact"

    def __post_init__(self) -> None:
        check_fraction("states", self.states)
        check_integer("min_per_layer", self.min_per_layer, at_least=0)
        check_choice("ties", self.ties, ("exact", "keep"))

    def kept_of(self, total: int) -> int:
        """Return how many of ``total`` units stay: ``max(⌊total·(1 − states)⌋, 1)``.

        Source: LAST (arXiv 2411.02824), released code, ``int(P·L·(100 − r)/100)``.
        Differs: a relative guard of 1e-9 makes 100·(1 − 0.9) ten, not nine.
        """
        return max(math.floor(total * (1.0 - self.states) + 1e-9 * max(total, 1)), min(total, 1))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "states": self.states,
            "min_per_layer": self.min_per_layer,
            "ties": self.ties,
        }


def check_fraction(name: str, value: object) -> None:
    """Raise unless ``value`` is a real number in [0, 1).

    Args:
        name: of the argument, for the error.
        value: what was given.

    Raises:
        InputError: otherwise, naming the argument.
    """
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not 0.0 <= float(value) < 1.0:  # type: ignore[arg-type]
        raise InputError(
            f"{name} is {value!r}",
            allowed="a fraction to remove in [0, 1)",
            next_step="0.33 removes a third",
        )
