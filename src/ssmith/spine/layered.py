"""A cut that is measured layer by layer, with nothing left to choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from ssmith.calibrate import PassConfig
from ssmith.core.budget import AUTO, ONCE, WHITE, Budget
from ssmith.core.errors import InputError
from ssmith.core.names import spelled
from ssmith.core.settings import to_mapping
from ssmith.criteria import by_name, with_settings
from ssmith.criteria.experts import ExpertCriterion
from ssmith.criteria.grouped import GroupCriterion
from ssmith.criteria.names import Kind
from ssmith.criteria.outputs import OutputCriterion

_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "scope": (AUTO, "uniform"), "min_per_layer": (0,), "ties": ("exact",),
    "semantics": (None, "remove", "project"),
}  # fmt: skip


_REFITTED = {
    "C": "reading rows refitted", "O": "output maps refitted",
    "S": "output maps refitted to the dense stream",
}  # fmt: skip

C = TypeVar("C", bound=GroupCriterion | OutputCriterion | ExpertCriterion)


@dataclass(frozen=True, kw_only=True)
class LayerCut(Generic[C]):
    """A cut of one unit; ``terms`` are what makes up for what went.

    C: reading rows; O: the map, to what the layer gave; S: the map, to the dense model's stream.
    """

    budget: Budget
    method: str
    criterion: C
    terms: str

    @property
    def label(self) -> str:
        """What cuts, in words."""
        fitted = [name for letter, name in _REFITTED.items() if letter in self.terms]
        return ", ".join([self.criterion.label, *fitted])

    @property
    def refits(self) -> bool:
        """Whether output maps make up for what went."""
        return bool({"O", "S"} & set(self.terms))

    @property
    def to_stream(self) -> bool:
        """Whether they are fitted to the dense model's stream, so that it runs beside the cut."""
        return "S" in self.terms

    @property
    def semantics(self) -> str:
        """What becomes of a unit that is cut."""
        return self.criterion.semantics

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict: what was asked for and what chooses."""
        method = {"name": self.method, "label": self.label, "terms": self.terms}
        return {
            "budget": self.budget.as_dict(),
            "method": {**method, **to_mapping(self.criterion)},
        }


def kept_for(config: PassConfig, digest: str, cuts: Mapping[str, Any]) -> PassConfig:
    """Return a pass whose working directory, if it has one, is of these cuts of a model."""
    if config.work_dir is None or config.identity:
        return config
    return replace(config, identity={"model": digest, "cuts": dict(cuts)})


def read_cut(
    budget: Budget, kind: Kind, *, usual: str, of: str, fits: str = "O", by_default: str = "O"
) -> LayerCut[Any]:
    """Return what a budget asks of units that criteria of a kind know.

    ``usual`` is the method if none is named, ``of`` what is cut, in words; ``fits`` are terms
    that could make up for it. Without a word on it those ``by_default`` do for the usual choice,
    and for criteria that count on it.
    """
    named = spelled(budget.method)
    method = usual if named == AUTO else named
    criterion = with_settings(by_name(method, kind), method, budget.settings, budget.seed)
    budget.refuse_beside(_ALLOWED, of=of)
    if budget.pattern is not None:
        raise InputError(f"sparsity is {budget.pattern}", allowed="a share or a count")
    if not budget.terms <= set(fits) or budget.compensate in (ONCE, WHITE):
        words = [f"{letter}: {_REFITTED[letter]}" for letter in fits]
        raise InputError(
            f"compensate is {budget.compensate!r} for {of}",
            allowed=", or ".join(["auto or none", *words]),
        )
    counted_on = set(by_default) <= set(fits) and (named == AUTO or criterion.refits)
    terms = "".join(sorted(budget.terms))
    if budget.compensate == AUTO and counted_on:
        terms = by_default
    if budget.semantics not in (None, criterion.semantics):
        raise InputError(
            f"semantics is {budget.semantics!r} for {method}", allowed=criterion.semantics,
            next_step="the method balanced projects states, the others remove them",
        )  # fmt: skip
    return LayerCut(budget=budget, method=method, criterion=criterion, terms=terms)
