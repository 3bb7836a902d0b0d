"""Answers of a model to new data: labels with probabilities, numbers with intervals, a score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssmith import api, evaluation
from ssmith.core.errors import DataError
from ssmith.core.findings import Finding
from ssmith.core.progress import Progress, silent
from ssmith.core.sequences import Sequences
from ssmith.evaluation.wishes import DecisionConfig
from ssmith.serving.columns import Column, columns_of, score
from ssmith.serving.decision import (
    Decision,
    fitted_before,
    fitted_decision,
    kept_decision,
)
from ssmith.serving.rows import AskedRows, open_rows

PART = 512
"""Rows that are answered together: of equal rows the answers are equal to the last bit."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """How answers are made.

    Args:
        decide: what is wanted of them.
        calibrate: labelled data whose validation split thresholds and intervals are fitted on; None
            for those that were fitted at training.
        batch_size: rows per forward pass, ≥ 1.
    """

    decide: DecisionConfig = field(default_factory=DecisionConfig)
    calibrate: str | None = None
    batch_size: int = 64


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model answers to rows, as a table with the truth where it is known.

    Outputs (n, o) are as it returned them; the score is empty without labels.
    """

    columns: Mapping[str, Column]
    decision: Decision
    outputs: Tensor
    rows: AskedRows
    score: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return len(self.outputs)

    def summary(self) -> dict[str, Any]:
        """Return what there is to say of all rows together, JSON-ready."""
        return {
            "rows": len(self),
            "labelled": int(self.rows.labelled.sum()),
            "decision": self.decision.as_dict(),
            "score": dict(self.score),
            "findings": [item.as_dict() for item in self.findings],
        }


def predict(
    model: nn.Module,
    source: str | Path,
    config: PredictConfig | None = None,
    *,
    progress: Progress = silent,
) -> Predictions:
    """Answer new data, labelled or not.

    A model that was trained on recordings finds its channels by their names, and cuts and scales
    them as it did then.

    Args:
        model: a sequence model, or a language model with a head, with adapters or without.
        source: a file or folder of the kind it was trained on; or ``embedded:NAME``, of which the
            test split is answered.
        config: thresholds, intervals, batches.
        progress: told after every few thousand rows.

    Returns:
        The answers, in the order of the source.

    Raises:
        InputError: if there is no such source, or a wish says nothing about this model.
        DataError: if the source does not fit the model, or holds too few rows to fit a wish on.
        ModelError: if the model does not answer sequences.
    """
    config = config or PredictConfig()
    decision = decide(model, config)
    asked = open_rows(model, source)
    outputs = _outputs(model, asked.rows, config.batch_size, progress)
    return Predictions(
        columns=columns_of(decision, outputs, asked),
        decision=decision,
        outputs=outputs,
        rows=asked,
        score=score(decision, outputs, asked),
        findings=(*asked.findings, *(() if config.calibrate else fitted_before(model))),
    )


def decide(model: nn.Module, config: PredictConfig) -> Decision:
    """Return what is said of a model's outputs: as fitted at training, or on labelled rows now."""
    wish = config.decide
    if config.calibrate is None:
        if wish.wants_threshold:
            raise DataError(
                f"a threshold of {wish.positive or 'anomalies'!r} without rows to fit it on",
                allowed="calibrate=DATA, labelled rows that the model has not learned from",
                next_step="name the data it was trained on: its validation split is taken",
            )
        return kept_decision(model, wish)
    found = api.load_data(config.calibrate, model, needs=("validation",))
    part = found.split("validation")
    rows = AskedRows(rows=part, labelled=torch.ones(len(part), dtype=torch.bool), names={})
    outputs = evaluation.predict(model, part, config.batch_size)
    return fitted_decision(model, wish, rows, outputs)


def _outputs(model: nn.Module, rows: Sequences, batch_size: int, progress: Progress) -> Tensor:
    found = []
    for start in range(0, len(rows), PART):
        index = torch.arange(start, min(start + PART, len(rows)))
        found.append(evaluation.predict(model, rows.take(index), batch_size))
        progress("predict", min(start + PART, len(rows)), len(rows))
    return torch.cat(found)
