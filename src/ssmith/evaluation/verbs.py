"""How good is a network, and how good is another on the same rows?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from ssmith.core.rows import Rows, as_rows
from ssmith.evaluation.comparison import Comparison, compare_outcomes
from ssmith.evaluation.intervals import Estimate, estimate
from ssmith.evaluation.naive import naive_of
from ssmith.evaluation.task import Task, outcomes_of
from ssmith.evaluation.tasks import task_of
from ssmith.families.hf import engine


def evaluate(
    model: nn.Module,
    rows: Any,
    task: Task | str | None = None,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Estimate:
    """Measure how good a network is, with an interval.

    Args:
        model: any network.
        rows: sequences (``data.split("test")``), windows of text (``text.windows(2048)``), or
            anything that yields batches (see `ssmith.rows`).
        task: what good means: a `Task`, or one by name; by default perplexity of text, accuracy of
            classes and mean absolute error of numbers.
        seed: of the bootstrap, where the interval is one.
        batch_size: rows per forward pass; 64 by default, of text 8.

    Returns:
        The metric with its interval.

    Raises:
        InputError: if the task does not fit, or returns no number per row.
        ModelError: if no task is named and the network does not say what it predicts.
        DataError: if there is no row, or targets do not fit.
        NumericalError: if an output is not finite.
    """
    prepared = as_rows(rows)
    chosen = task_of(model, prepared, task)
    outcomes = outcomes_of(chosen, model, prepared, batch_size=batch_size)
    return _told(estimate(outcomes, chosen.metric, seed=seed), model, prepared, chosen)


def compare(
    before: nn.Module,
    after: nn.Module,
    rows: Any,
    task: Task | str | None = None,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> Comparison:
    """Compare two networks on the same rows, in pairs.

    Args:
        before: the first network.
        after: the second network.
        rows: as in `evaluate`.
        task: as in `evaluate`.
        seed: of resampling.
        batch_size: rows per forward pass.

    Returns:
        Both metrics, their difference with its interval, and a test; see `evaluate` for errors.
    """
    prepared = as_rows(rows)
    chosen = task_of(before, prepared, task)
    outcomes = [
        outcomes_of(chosen, model, prepared, batch_size=batch_size) for model in (before, after)
    ]
    found = compare_outcomes(outcomes[0], outcomes[1], chosen.metric, seed=seed)
    return replace(
        found,
        before=_told(found.before, before, prepared, chosen),
        after=_told(found.after, after, prepared, chosen),
    )


def _told(found: Estimate, model: nn.Module, rows: Rows, task: Task) -> Estimate:
    """Add what it was measured on, and on which backends."""
    paths: tuple[str, ...] = ()
    if task.around is engine:
        with engine(model) as report:
            paths = tuple(f"{item.op}: {item.backend} ({item.reason})" for item in report.paths)
    naive = None if found.metric is None else naive_of(found.metric, rows)
    return replace(found, rows=rows.describe(), paths=paths, naive=naive)
