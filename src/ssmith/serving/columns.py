"""Answers as columns of a table, and what they are worth where the truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssmith.core.preparation import KNOWN
from ssmith.evaluation.intervals import wilson
from ssmith.evaluation.wishes import SCORE, anomaly_scores
from ssmith.serving.decision import Decision, Numbers
from ssmith.serving.rows import AskedRows

Column = NDArray[Any] | list[Any]
LABEL, PROBABILITY, TARGET, ANOMALY = "label", "probability", "target", "anomaly"
_JOIN, _ROWS = ";", "rows"


def columns_of(decision: Decision, outputs: Tensor, rows: AskedRows) -> dict[str, Column]:
    """Return the answers to rows, the name of each row first; the truth last, where it is known."""
    found: dict[str, Column] = {name: list(values) for name, values in rows.names.items()}
    if not decision.reconstructs:
        found |= answers_in(decision, outputs)
        if rows.told:
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
    return score_of(decision, counted(decision, outputs, rows))


def counted(decision: Decision, outputs: Tensor, rows: AskedRows) -> dict[str, float]:
    """Return what a score is made of: numbers that add up over parts of the rows."""
    known = rows.labelled
    if not bool(known.any()):
        return {}
    outputs, truth = outputs[known], decision.truth(rows.rows.y[known])
    found: dict[str, float] = {_ROWS: len(outputs)}
    if not decision.gives_classes:
        misses = np.abs(decision.numbers(outputs) - truth)
        for place, name in enumerate(decision.targets):
            found[f"{name} misses"] = float(misses[:, place].sum())
            found[f"{name} squares"] = float((misses[:, place] ** 2).sum())
            if decision.widths:
                inside = misses[:, place] <= decision.widths[place]
                found[f"{name} inside"] = int(inside.sum())
        return found | _counted_anomalies(decision, decision.numbers(outputs), truth, rows)
    shares = decision.shares(outputs)
    if decision.answers.task == "multi-label":
        wanted, given = truth > 0.5, decision.given(shares)
    else:
        places = np.arange(shares.shape[1])
        wanted, given = truth[:, None] == places, decision.chosen(shares)[:, None] == places
    for place, name in enumerate(decision.answers.classes):
        found[f"{name} rows"] = int(wanted[:, place].sum())
        found[f"{name} hits"] = int((wanted & given)[:, place].sum())
        found[f"{name} alarms"] = int((~wanted & given)[:, place].sum())
    return found


def _counted_anomalies(
    decision: Decision, given: Numbers, truth: Numbers, rows: AskedRows
) -> dict[str, float]:
    limit = decision.thresholds.get(SCORE)
    if KNOWN not in rows.names or limit is None or decision.preparation is None:
        return {}
    known = (np.array(rows.names[KNOWN]) == "1")[rows.labelled.numpy()]
    said = anomaly_scores(given, truth, decision.preparation) >= limit
    hits, alarms = int((said & known).sum()), int((said & ~known).sum())
    counts = zip(("rows", "hits", "alarms"), (int(known.sum()), hits, alarms), strict=True)
    return {f"{ANOMALY} {word}": count for word, count in counts}


def score_of(decision: Decision, sums: Mapping[str, float]) -> dict[str, Any]:
    """Return the score that numbers of `counted` say, summed up."""
    if not sums:
        return {}
    rows = int(sums[_ROWS])
    found: dict[str, Any] = {"rows": rows}
    if not decision.gives_classes:
        if f"{ANOMALY} rows" in sums:
            found["classes"] = {ANOMALY: _of_class(sums, ANOMALY, rows)}
        # The steps of a window are no targets that somebody asked for.
        numbers = {} if decision.reconstructs else _score_numbers(decision, sums, rows)
        return found | {"targets": numbers}
    names = decision.answers.classes
    classes = {name: _of_class(sums, name, rows) for name in names}
    if decision.answers.task != "multi-label":
        right = sum(int(sums[f"{name} hits"]) for name in names)
        found["accuracy"] = wilson(right, rows).as_dict()
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
    return alarms_of(decision, scores)


def alarms_of(decision: Decision, scores: Numbers) -> dict[str, Column]:
    """Return scores, NaN where nothing is known, and which of them are past the threshold."""
    limit = decision.thresholds.get(SCORE)
    if limit is None:
        return {SCORE: scores}
    return {SCORE: scores, ANOMALY: [bool(s >= limit) if np.isfinite(s) else None for s in scores]}


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


def _score_numbers(decision: Decision, sums: Mapping[str, float], rows: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in decision.targets:
        found[name] = {
            "mean_absolute_error": sums[f"{name} misses"] / rows,
            "rmse": float(np.sqrt(sums[f"{name} squares"] / rows)),
        }
        if decision.widths:
            found[name]["coverage"] = wilson(int(sums[f"{name} inside"]), rows).as_dict()
            found[name]["promised"] = decision.level
    return found


def _of_class(sums: Mapping[str, float], name: str, rows: int) -> dict[str, Any]:
    """Return recall and the share of false alarms of one class; None where there are no rows."""
    mine, hits, alarms = (int(sums[f"{name} {word}"]) for word in ("rows", "hits", "alarms"))
    others = rows - mine
    return {
        "rows": mine,
        "recall": wilson(hits, mine).as_dict() if mine else None,
        "false_alarms": wilson(alarms, others).as_dict() if others else None,
    }
