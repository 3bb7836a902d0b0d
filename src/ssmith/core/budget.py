"""Budget: how much of which unit goes, and what chooses it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import InputError
from ssmith.core.pattern import Pattern
from ssmith.core.settings import to_mapping

Ties = Literal["exact", "keep"]
Quantity = Literal["parameters", "bytes", "state_bytes", "step_time", "prompt_time"]
TimedQuantity = Literal["step_time", "prompt_time"]
Scope = Literal["auto", "uniform", "global", "cost", "measured", "sensitivity", "sensitivity-trace"]
AUTO: Literal["auto"] = "auto"
NONE: Literal["none"] = "none"
ONCE: Literal["once"] = "once"
WHITE: Literal["white"] = "white"
TERMS = ("B", "C", "D", "O", "S", "h", "y")
"""What closed-form compensation can refit: input rows, read-outs, skip weights, output maps, these
towards the dense model's stream, state and output offsets."""
_WORDS = {"readout": ("C",), "full": ("B", "C", "D")}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A budget by what a model is to weigh in the end.

    Args:
        quantity: ``"parameters"`` of the model, ``"bytes"`` of its weights, ``"state_bytes"`` of
            one sequence's state, ``"step_time"`` of one step or ``"prompt_time"`` of a prompt of
            512 steps, both of one sequence and measured.
        amount: a share of the dense model's in (0, 1), or an absolute number ≥ 1; of times it is
            in milliseconds.
    """

    quantity: Quantity
    amount: float

    def __post_init__(self) -> None:
        check_choice("quantity", self.quantity, get_args(Quantity))
        real = isinstance(self.amount, int | float) and not isinstance(self.amount, bool)
        if not real or not 0 < self.amount < math.inf:
            raise InputError(
                f"target of {self.quantity} is {self.amount!r}",
                allowed="a share of the dense model's in (0, 1), or an absolute number",
            )

    @property
    def timed(self) -> TimedQuantity | None:
        """What of a model is timed; None if nothing is."""
        return self.quantity if self.quantity in ("step_time", "prompt_time") else None

    def of(self, dense: float) -> float:
        """Return the most that is allowed, given what the dense model has."""
        return self.amount * dense if self.amount < 1 else self.amount

    def __str__(self) -> str:
        return f"{self.quantity} {self.amount:g}"


Amount = float | int | Pattern | Target
"""A share to remove, a count to remove, N of M to keep, or what the model is to weigh."""


@dataclass(frozen=True)
class Budget:
    """How much of one kind of unit goes.

    Args:
        unit: what is cut: ``"state"``, ``"entry"`` (of A_log), ``"weight"``, ``"block"``, …; with
            a `Target` several of them, ``"neuron+head_dim"``, each as far as it costs least.
        sparsity: a share to remove in [0, 1), a count to remove (an integer ≥ 1; of weights, in
            each target), ``"2:4"`` to keep two of every four neighbours, or a `Target`.
        method: what chooses, by name (see ``ssmith list``); ``"auto"``: the best known for this
            unit with the data there is.
        settings: settings of the method that differ from its defaults.
        scope: how sites share the budget. ``"uniform"``: all lose the same share; ``"global"``:
            scores are compared over the model; ``"cost"``: where the output loses least;
            ``"measured"``: by the model's measured loss (of several units: each layer by itself,
            not all of them alike); ``"sensitivity"`` and
            ``"sensitivity-trace"``: weights by SparseSSM's ranks; ``"auto"``: as the method is
            defined.
        targets: sites or weights that are cut, with ``*`` and ``?``; all if empty.
        min_per_layer: keep at least so many in every site, within the same budget.
        ties: ``"exact"`` removes exactly the budget and breaks equal scores by order; ``"keep"``
            keeps all that tie with the threshold, as LAST's released code does.
        compensate: what of the rest is refitted in closed form: ``"auto"``, ``"none"``, ``"once"``
            (read-outs of all layers at once), ``"white"`` (B, C and D of each layer alone, for
            white noise at its input: needs no data), ``"readout"`` (C), ``"full"`` (B, C and D),
            or any of the terms B, C, D, O (output map), S (output map, towards the dense model's
            stream behind the block), h and y.
        semantics: what a cut unit does, where units can do several things; None for the usual.
        seed: of what is random, ≥ 0.
    """

    unit: str
    sparsity: Amount | str
    _: KW_ONLY
    method: str = AUTO
    settings: Mapping[str, str | int | float] = field(default_factory=dict)
    scope: Scope = AUTO
    targets: tuple[str, ...] = ()
    min_per_layer: int = 0
    ties: Ties = "exact"
    compensate: str | tuple[str, ...] = AUTO
    semantics: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "sparsity", _amount(self.unit, self.sparsity))
        if len(self.units) > 1 and not isinstance(self.sparsity, Target):
            raise InputError(
                f"{self.sparsity} of {self.unit}",
                allowed="what the model is to weigh, where several units share it",
                next_step=f"{self.unit}=parameters:0.8, or an amount for each unit",
            )
        object.__setattr__(self, "compensate", _terms(self.compensate))
        object.__setattr__(self, "targets", tuple(self.targets))
        check_choice("scope", self.scope, get_args(Scope))
        check_integer("min_per_layer", self.min_per_layer, at_least=0)
        check_choice("ties", self.ties, get_args(Ties))
        check_integer("seed", self.seed, at_least=0)

    @property
    def units(self) -> tuple[str, ...]:
        """The units that share it."""
        return tuple(self.unit.split("+"))

    @property
    def share(self) -> float:
        """The fraction removed, where it is known without the model."""
        if isinstance(self.sparsity, Pattern):
            return self.sparsity.removed
        if isinstance(self.sparsity, float):
            return self.sparsity
        raise InputError(
            f"{self.sparsity} of {self.unit}", allowed="a share in [0, 1) or a pattern N:M here"
        )

    @property
    def pattern(self) -> Pattern | None:
        """The pattern, if it is one."""
        return self.sparsity if isinstance(self.sparsity, Pattern) else None

    @property
    def terms(self) -> frozenset[str]:
        """What is refitted, where that is named."""
        return frozenset() if isinstance(self.compensate, str) else frozenset(self.compensate)

    def wants(self, name: str) -> bool:
        """Return whether a site, or a weight in it, is among the targets."""
        return not self.targets or any(
            fnmatchcase(name, target) or fnmatchcase(name, f"*.{target}") for target in self.targets
        )

    def refuse_beside(self, allowed: Mapping[str, tuple[Any, ...]], *, of: str) -> None:
        """Raise if a setting has another value than those that mean something for ``of``."""
        for name, values in allowed.items():
            value = getattr(self, name)
            if value not in values:
                words = [str(item) if item or item == 0 else "none" for item in values]
                raise InputError(f"{name} is {value!r} for {of}", allowed=", ".join(words))

    def removed_of(self, total: int) -> int:
        """Return how many of ``total`` units go.

        A share removes ``total − max(⌊total·(1 − share)⌋, 1)``, so never all; a count of more than
        there are is refused.

        Source: LAST (arXiv 2411.02824), released code, ``int(P·L·(100 − r)/100)``.
        Differs: a relative guard of 1e-9 makes 100·(1 − 0.9) ten, not nine.
        """
        if isinstance(self.sparsity, int) and not isinstance(self.sparsity, bool):
            if self.sparsity > total:
                raise InputError(
                    f"{self.sparsity} of {total} {self.unit} are to go", allowed=f"at most {total}"
                )
            return self.sparsity
        kept = math.floor(total * (1.0 - self.share) + 1e-9 * max(total, 1))
        return total - max(kept, min(total, 1))

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        amount = self.sparsity
        shown = str(amount) if isinstance(amount, Pattern | Target) else amount
        return {**to_mapping(self), "sparsity": shown}


def check_fraction(name: str, value: object) -> None:
    """Raise unless ``value`` is a real number in [0, 1)."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if not numeric or not 0.0 <= float(value) < 1.0:  # type: ignore[arg-type]
        raise InputError(
            f"{name} is {value!r}",
            allowed="a fraction to remove in [0, 1)",
            next_step="0.33 removes a third",
        )


def _amount(unit: str, value: object) -> Amount:
    if isinstance(value, str) and ":" in value:
        return Pattern.parse(value)
    if isinstance(value, Pattern | Target):
        return value
    count = isinstance(value, int) and not isinstance(value, bool)
    if count and value >= 1:  # type: ignore[operator]
        return int(value)  # type: ignore[call-overload, no-any-return]
    real = count or isinstance(value, float)
    if real and 0 <= value < 1:  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    raise InputError(
        f"sparsity of {unit} is {value!r}",
        allowed="a share to remove in [0, 1), a count to remove ≥ 1, N:M, or a Target",
        next_step="0.33 removes a third, 4 removes four, 2:4 keeps two of four",
    )


def _terms(value: str | Iterable[str]) -> str | tuple[str, ...]:
    if isinstance(value, str) and value in (AUTO, NONE, ONCE, WHITE):
        return value
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    letters = [item for item in value if item not in ", +"]
    if not letters or set(letters) - set(TERMS) or len(set(letters)) < len(letters):
        raise InputError(
            f"compensate is {value!r}",
            allowed="auto, none, once, white, readout, full, "
            f"or any of {', '.join(TERMS)}, each once",
        )
    return tuple(sorted(letters))
