"""From a model's outputs to what is said: a class by its threshold, a number with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.core.findings import Finding
from ssmith.core.preparation import FITTED_ON, Preparation
from ssmith.evaluation import conformal
from ssmith.evaluation.wishes import (
    DecisionConfig,
    anomaly_scores,
    anomaly_threshold,
    class_threshold,
)
from ssmith.families import Answers, model_digest, preparation_of
from ssmith.serving.rows import AskedRows, asked_of
from ssmith.tune.adapters import adapters_of

Numbers = NDArray[np.float64]
_HALF = 0.5
USUAL = 0.9
"""Share of new rows that an interval covers, unless something else is asked for."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is said of outputs.

    Args:
        answers: what the model answers.
        targets: names of numbers that it predicts.
        thresholds: probability from which a class is given, by class; the likeliest otherwise.
        widths: half widths of the intervals of numbers; none if empty.
        level: share of new rows that they cover.
        preparation: of the model, which brings numbers back to their units.
    """

    answers: Answers
    targets: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    widths: tuple[float, ...] = ()
    level: float = USUAL
    preparation: Preparation | None = None

    @property
    def gives_classes(self) -> bool:
        """Whether the answer is a class, or several."""
        return self.answers.task in ("classification", "multi-label")

    @property
    def finds_anomalies(self) -> bool:
        """Whether the model forecasts so that what differs from it is found."""
        return self.preparation is not None and self.preparation.task == "anomaly"

    @property
    def reconstructs(self) -> bool:
        """Whether what is found are windows that differ from what the model keeps of them."""
        prepared = self.preparation
        return self.finds_anomalies and prepared is not None and prepared.config.reconstructs

    def shares(self, outputs: Tensor) -> Numbers:
        """Return the probability of each class (n, k)."""
        wide = outputs.double()
        one = self.answers.task == "classification"
        return np.asarray((wide.softmax(-1) if one else wide.sigmoid()).numpy())

    def numbers(self, outputs: Tensor) -> Numbers:
        """Return predicted numbers (n, o) in their own units."""
        return self._back(outputs.reshape(len(outputs), -1).double().numpy())

    def truth(self, y: Tensor) -> NDArray[Any]:
        """Return targets in the units of `numbers`, or the indices of classes."""
        if self.answers.task == "classification":
            return np.asarray(y.numpy())
        flat = y.reshape(len(y), -1).double().numpy()
        return np.asarray(flat) if self.gives_classes else self._back(flat)

    def chosen(self, shares: Numbers) -> NDArray[np.int64]:
        """Return the class that is given: of those past their threshold the one furthest past it.

        Where none is, the likeliest of those without a threshold, or of all if all have one.
        """
        names = self.answers.classes
        limits = np.array([self.thresholds.get(name, np.inf) for name in names])
        past = shares - limits
        free = np.isinf(limits) if np.isinf(limits).any() else np.ones(len(names), dtype=bool)
        rest = np.where(free, shares, -np.inf).argmax(1)
        return np.asarray(np.where((past >= 0).any(1), past.argmax(1), rest))

    def given(self, shares: Numbers) -> NDArray[np.bool_]:
        """Return which labels of several are given (n, k)."""
        limits = np.array([self.thresholds.get(name, _HALF) for name in self.answers.classes])
        return np.asarray(shares >= limits)

    def as_dict(self) -> dict[str, Any]:
        """Return what is applied, JSON-ready."""
        found: dict[str, Any] = {"task": self.answers.task}
        if self.gives_classes:
            return {**found, "classes": list(self.answers.classes),
                    "thresholds": dict(self.thresholds)}  # fmt: skip
        widths = dict(zip(self.targets, self.widths, strict=False))
        limits = {"thresholds": dict(self.thresholds)} if self.thresholds else {}
        return {**found, "targets": list(self.targets), "level": self.level,
                "half_widths": widths, **limits}  # fmt: skip

    def _back(self, values: Numbers) -> Numbers:
        has = self.preparation is not None and bool(self.preparation.targets)
        return self.preparation.targets_back(values) if has and self.preparation else values


def kept_decision(model: nn.Module, config: DecisionConfig) -> Decision:
    """Return what is said by what was fitted at training, as far as it was."""
    answers, preparation = asked_of(model), preparation_of(model)
    thresholds = dict(preparation.thresholds) if preparation else {}
    residuals = preparation.residuals if preparation else {}
    named = tuple(item.name for item in preparation.targets) if preparation else ()
    level = USUAL if config.level is None else config.level
    if config.level is None and residuals:
        # Few validation rows may not have been enough for the usual one.
        level = min(level, max(map(float, residuals)))
    widths = next((w for known, w in residuals.items() if float(known) == level), ())
    if residuals and not widths:
        raise InputError(
            f"level is {level:g}", allowed=f"{', '.join(residuals)}, as fitted at training",
            next_step="choose one of these, or fit it now on labelled rows: calibrate",
        )  # fmt: skip
    return Decision(
        answers=_named(answers), targets=named or _targets(answers), thresholds=thresholds,
        widths=tuple(widths), level=level, preparation=preparation,
    )  # fmt: skip


def fitted_before(model: nn.Module) -> tuple[Finding, ...]:
    """Return what to know of intervals and thresholds that were fitted on another model's outputs.

    A model that was cut or tuned since answers otherwise, and keeps no promise of before.
    """
    preparation = preparation_of(model)
    fitted = preparation is not None and bool(preparation.residuals or preparation.thresholds)
    if preparation is None or not fitted or adapters_of(model):
        return _changed() if fitted else ()
    same = preparation.facts.get(FITTED_ON) in (None, model_digest(model))
    return () if same else _changed()


def _changed() -> tuple[Finding, ...]:
    text = (
        "intervals and thresholds were fitted before the model was changed and may not hold: fit "
        "them on labelled rows of today with --calibrate DATA"
    )
    return (Finding(layer="", kind="fitted-before", message=text),)


def fitted_decision(
    model: nn.Module, config: DecisionConfig, rows: AskedRows, outputs: Tensor
) -> Decision:
    """Return what is said by what is fitted on labelled rows and the model's outputs for them."""
    plain = kept_decision(model, config)
    known = rows.labelled
    outputs, truth = outputs[known], plain.truth(rows.rows.y[known])
    made: dict[str, Any] = {}
    fitted: dict[str, float] = {}
    if not plain.gives_classes:
        given = plain.numbers(outputs)
        made["level"] = USUAL if config.level is None else config.level
        made["widths"] = conformal.half_widths(given, truth, made["level"])
        if plain.finds_anomalies and plain.preparation:
            scores = anomaly_scores(given, truth, plain.preparation)
            fitted = anomaly_threshold(config, scores)
    elif config.positive is not None:
        shares = plain.shares(outputs)
        fitted = class_threshold(config, plain.answers.classes, shares, truth)
    if config.wants_threshold and not fitted:
        raise InputError(
            "recall or false_alarms without a class that is looked for",
            allowed="--positive CLASS, of models of classes; false alarms alone of anomalies",
        )
    made["thresholds"] = {**plain.thresholds, **fitted}
    return Decision(**{**vars(plain), **made})


def _named(answers: Answers) -> Answers:
    """Return answers with a name for each class."""
    if answers.classes or answers.task not in ("classification", "multi-label"):
        return answers
    return Answers(**{**vars(answers), "classes": tuple(map(str, range(answers.outputs)))})


def _targets(answers: Answers) -> tuple[str, ...]:
    if answers.task == "forecast" and answers.channels:
        ahead = range(1, answers.outputs // answers.channels + 1)
        return tuple(f"channel {c} +{h}" for h in ahead for c in range(answers.channels))
    if answers.outputs == 1:
        return ("value",)
    return tuple(f"value {place}" for place in range(answers.outputs))
