"""How selective layers are pruned."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ssmith.core.checks import check_choice, check_integer
from ssmith.core.errors import InputError
from ssmith.core.names import unknown_name
from ssmith.core.pattern import Amount, Pattern, amount_as_json
from ssmith.core.selective import check_entry_semantics
from ssmith.criteria.selective import (
    DEFAULT,
    RandomEntries,
    SelectiveCriterion,
    selective_by_name,
)
from ssmith.jobs.selective.projection_config import ProjectionConfig
from ssmith.surgery.recovery import TERMS

Split = Literal["equal", "marginal"]
Spread = Literal["auto", "layer", "model"]
Compensate = Literal["auto", "none", "C", "CB"]
AUTO: Literal["auto"] = "auto"


@dataclass(frozen=True, kw_only=True)
class SelectiveConfig:
    """What is removed from every selective layer, and by what.

    Args:
        a_log: fraction of the entries of A_log to remove in each layer, or N of M states of a
            channel to keep; nothing if None.
        columns: fraction of whole state columns to remove; nothing if None.
        split: ``equal``: every layer loses as many columns, so that the model loads everywhere;
            ``marginal``: layers lose columns where that costs least, which only ssmith loads.
        spread: ``layer``: every layer loses the same share of its entries of A_log; ``model``: the
            share goes over all layers, where it costs least of the energy of the stream a layer
            adds to; ``auto``: ``model`` for the criteria whose scores are such energies. Both
            open in stock code.
        method: criterion, by name (see ``ssmith list``); ``auto``: Gram greedy for entries,
            and for columns the cost after the rest is refitted.
        settings: settings of the criterion that differ from its defaults.
        semantics: what a cut entry of A_log does: memoryless, unit-decay or fast-decay.
        seed: of what is random, ≥ 0.
        compensate: what makes up for removed columns: ``none``, new rows of ``C`` in x_proj, or of
            C and B (``CB``, a second pass); at no cost when the model runs. ``auto``: C where the
            criterion counts on it and the layer allows it (Falcon-Mamba normalises C, and so does
            not).
        recover: refit these terms to what the cut took from a layer's output: any of the letters
            D (the skip weights, at no cost when the model runs), h (a state offset) and y (an
            output offset); ``none``; ``auto``: D where the method is ``auto``, too, so that a
            method that is named is that method alone.
        projections: what is removed from the projections; nothing if None.

    Raises:
        InputError: if a value is outside its domain, or nothing is to be removed.
    """

    a_log: Amount | None = None
    columns: float | None = None
    split: Split = "equal"
    spread: Spread = "auto"
    method: str = AUTO
    settings: Mapping[str, str | int | float] = field(default_factory=dict)
    semantics: str = "memoryless"
    seed: int = 0
    compensate: Compensate = "auto"
    recover: str = AUTO
    projections: ProjectionConfig | None = None

    def __post_init__(self) -> None:
        if self.a_log is None and self.columns is None and self.projections is None:
            raise InputError(
                "nothing is to be removed", allowed="a_log, columns, projections",
                next_step="--a-log 0.5 cuts half of the entries of A_log",
            )  # fmt: skip
        for name in ("a_log", "columns"):
            _check_amount(name, getattr(self, name))
        if isinstance(self.columns, Pattern):
            raise InputError(f"columns is {self.columns}", allowed="a fraction in (0, 1)")
        check_choice("split", self.split, get_args(Split))
        check_choice("spread", self.spread, get_args(Spread))
        if self.spread == "model" and not self.criterion().scores_output:
            raise InputError(
                f"spread is 'model', and {self.method} does not score what a layer's output loses",
                allowed="output-energy, gram-greedy, refit-greedy",
                next_step="spread it by layer",
            )
        check_entry_semantics(self.semantics)
        check_choice("compensate", self.compensate, get_args(Compensate))
        if set(self.terms) - set(TERMS) or len(set(self.terms)) < len(self.terms):
            raise InputError(
                f"recover is {self.recover!r}",
                allowed="any of the letters D, h, y, each once; none; auto",
            )
        if self.compensate not in ("none", AUTO) and self.columns is None:
            raise InputError(
                f"compensate is {self.compensate!r}, but no column is to be removed",
                allowed="compensation of columns",
                next_step="give columns, or recover what entries lose by recover='D'",
            )
        if self.terms and self.a_log is None and self.columns is None:
            raise InputError(
                f"recover is {self.recover!r}, but no state is to be removed",
                allowed="recovery of cut entries or columns",
            )
        check_integer("seed", self.seed, at_least=0)
        if self.columns is not None and not self.criterion().scores_columns:
            raise InputError(
                f"{self.method} is not defined for columns",
                allowed="output-energy, gram-greedy, sparsessm-v1 and the baselines",
                next_step="choose one of these, or cut a_log only",
            )
        self.criterion()

    def resolved(self, *, refits: bool) -> SelectiveConfig:
        """Return the same with everything named that was left to choose.

        Args:
            refits: whether the model's columns can be refitted.

        Returns:
            A configuration without ``auto``.
        """
        method, rows = self._method(refits=refits), self.compensate
        if rows == AUTO:
            counts_on_it = self.columns is not None and method == "refit-greedy"
            rows = "C" if refits and counts_on_it else "none"
        spread: Spread = "model" if self.over_layers else "layer"
        recover = self.terms or "none"
        return dataclasses.replace(
            self, method=method, compensate=rows, spread=spread, recover=recover
        )

    def criterion(self) -> SelectiveCriterion:
        """Return the criterion with its settings.

        Returns:
            The criterion.

        Raises:
            InputError: if there is no such criterion or setting.
        """
        found = selective_by_name(self._method(refits=True))
        # A criterion is a dataclass by convention; the protocol cannot say so.
        known = {item.name for item in dataclasses.fields(found)}  # type: ignore[arg-type]
        unknown = sorted(set(self.settings) - known)
        if unknown:
            raise unknown_name(
                f"{self.method} has no setting {', '.join(unknown)}",
                unknown[0],
                sorted(known) or ["none"],
            )
        given = dict(self.settings)
        if isinstance(found, RandomEntries):
            given.setdefault("seed", self.seed)
        made: SelectiveCriterion = dataclasses.replace(found, **given)  # type: ignore[type-var]
        return made

    def _method(self, *, refits: bool) -> str:
        if self.method != AUTO:
            return self.method
        if self.columns is None:
            return DEFAULT
        return "refit-greedy" if refits else "gram-greedy"

    @property
    def label(self) -> str:
        """What cuts, in words: the criterion of states, that of projections, or both."""
        states = self.a_log is not None or self.columns is not None
        found = [self.criterion().label] if states else []
        if self.projections is not None:
            found.append(f"{self.projections.criterion().label} on projections")
        return ", ".join(found)

    @property
    def terms(self) -> str:
        """Letters of the terms that are refitted; none if empty."""
        if self.recover == AUTO:
            cuts_states = self.a_log is not None or self.columns is not None
            return "D" if self.method == AUTO and cuts_states else ""
        return "" if self.recover == "none" else self.recover

    @property
    def over_layers(self) -> bool:
        """Whether layers lose unequal shares of their entries."""
        by_energy = self.spread == "model" or (
            self.spread == "auto" and self.criterion().scores_output
        )
        return self.a_log is not None and not isinstance(self.a_log, Pattern) and by_energy

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict, the criterion's settings in full."""
        content = dataclasses.asdict(self)
        content["a_log"] = None if self.a_log is None else amount_as_json(self.a_log)
        content["projections"] = self.projections and self.projections.as_dict()
        content["settings"] = dataclasses.asdict(self.criterion())  # type: ignore[call-overload]
        return content


def _check_amount(name: str, value: object) -> None:
    if value is None or isinstance(value, Pattern):
        return
    real = isinstance(value, int | float) and not isinstance(value, bool)
    if not real or not 0 < value < 1:  # type: ignore[operator]
        raise InputError(
            f"{name} is {value!r}",
            allowed="a fraction in (0, 1)" + ", or N:M" * (name == "a_log"),
            next_step="0.5 removes half",
        )  # fmt: skip
