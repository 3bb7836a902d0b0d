"""Answers as columns of a table, and what they are worth where the truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssmith.evaluation.intervals import Estimate, wilson
from ssmith.evaluation.wishes import SCORE, anomaly_scores
from ssmith.serving.decision import Decision, Numbers
from ssmith.serving.rows import AskedRows

Column = NDArray[Any] | list[Any]
LABEL, PROBABILITY, TARGET, ANOMALY = "label", "probability", "target", "anomaly"
_JOIN = ";"


def columns_of(decision: Decision, outputs: Tensor, rows: AskedRows) -> dict[str, Column]:
    """Return the answers to rows, the name of each row first; the truth last, where it is known."""
    found: dict[str, Column] = {name: list(values) for name, values in rows.names.items()}
    found |= answers_in(decision, outputs)
    if bool(rows.labelled.any()):
        found |= _truth(decision, rows)
    if decision.finds_anomalies:
        found |= anomalies(decision, outputs, rows)
    return found


def answers_in(decision: Decision, outputs: Tensor) -> dict[str, Column]:
    """Return what is said of outputs, by name of the column."""
    if not decision.gives_classes:
        return _numbers(decision, decision.numbers(outputs))
    names, shares = decision.answers.classes, decision.shares(outputs)
    each = {f"p {name}": shares[:, place] for place, name in enumerate(names)}
    if decision.answers.task == "multi-label":
        return {LABEL: _joined(names, decision.given(shares)), **each}
    chosen = decision.chosen(shares)
    return {
        LABEL: [names[place] for place in chosen],
        PROBABILITY: shares[np.arange(len(shares)), chosen],
        **each,
    }


def score(decision: Decision, outputs: Tensor, rows: AskedRows) -> dict[str, Any]:
    """Return what the answers to labelled rows are worth, JSON-ready; empty if none is."""
    known = rows.labelled
    if not bool(known.any()):
        return {}
    outputs, truth = outputs[known], decision.truth(rows.rows.y[known])
    found: dict[str, Any] = {"rows": len(outputs)}
    if not decision.gives_classes:
        return found | _score_numbers(decision, decision.numbers(outputs), truth)
    shares = decision.shares(outputs)
    if decision.answers.task == "multi-label":
        wanted, given = truth > 0.5, decision.given(shares)
    else:
        places = np.arange(shares.shape[1])
        wanted, given = truth[:, None] == places, decision.chosen(shares)[:, None] == places
        found["accuracy"] = _shared(wilson(int((wanted & given).sum()), len(outputs)))
    classes = {
        name: _of_class(wanted[:, place], given[:, place])
        for place, name in enumerate(decision.answers.classes)
    }
    recalls = [item["recall"]["value"] for item in classes.values() if item["recall"]]
    return found | {"balanced_accuracy": float(np.mean(recalls)), "classes": classes}


def anomalies(decision: Decision, outputs: Tensor, rows: AskedRows) -> dict[str, Column]:
    """Return how far what came is from what was expected, in spreads of the training rows.

    Past its threshold it is an anomaly; nothing is said where what came is unknown.
    """
    assert decision.preparation is not None
    given, truth = decision.numbers(outputs), decision.truth(rows.rows.y)
    known = rows.labelled.numpy()
    scores = np.where(known, anomaly_scores(given, truth, decision.preparation), np.nan)
    limit = decision.thresholds.get(SCORE)
    if limit is None:
        return {SCORE: scores}
    return {
        SCORE: scores,
        ANOMALY: [bool(s >= limit) if k else None for s, k in zip(scores, known, strict=True)],
    }


def _numbers(decision: Decision, values: Numbers) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for place, name in enumerate(decision.targets):
        found[name] = values[:, place]
        if decision.widths:
            found[f"{name} low"] = values[:, place] - decision.widths[place]
            found[f"{name} high"] = values[:, place] + decision.widths[place]
    return found


def _truth(decision: Decision, rows: AskedRows) -> dict[str, Column]:
    truth, known = decision.truth(rows.rows.y), rows.labelled.numpy()
    names = decision.answers.classes
    if decision.answers.task == "classification":
        said: list[Any] = [names[int(place)] for place in truth]
    elif decision.gives_classes:
        said = _joined(names, truth > 0.5)
    else:
        return {
            f"{TARGET} {name}": np.where(known, truth[:, place], np.nan)
            for place, name in enumerate(decision.targets)
        }
    return {TARGET: [one if there else None for one, there in zip(said, known, strict=True)]}


def _joined(names: tuple[str, ...], given: NDArray[np.bool_]) -> list[str]:
    return [_JOIN.join(name for name, on in zip(names, row, strict=True) if on) for row in given]


def _score_numbers(decision: Decision, values: Numbers, truth: NDArray[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, name in enumerate(decision.targets):
        misses = np.abs(values[:, place] - truth[:, place])
        said: dict[str, Any] = {
            "mean_absolute_error": float(misses.mean()),
            "rmse": float(np.sqrt((misses**2).mean())),
        }
        if decision.widths:
            inside = int((misses <= decision.widths[place]).sum())
            said["coverage"] = _shared(wilson(inside, len(misses)))
            said["promised"] = decision.level
        found[name] = said
    return {"targets": found}


def _of_class(wanted: NDArray[np.bool_], given: NDArray[np.bool_]) -> dict[str, Any]:
    """Return recall and the share of false alarms of one class; None where there are no rows."""
    mine, others = int(wanted.sum()), int((~wanted).sum())
    hits, alarms = int((wanted & given).sum()), int((~wanted & given).sum())
    return {
        "rows": mine,
        "recall": _shared(wilson(hits, mine)) if mine else None,
        "false_alarms": _shared(wilson(alarms, others)) if others else None,
    }


def _shared(estimate: Estimate) -> dict[str, Any]:
    return estimate.as_dict()
