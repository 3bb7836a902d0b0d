"""The checks of a pilot: all ways to the cut model agree."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ssmith import api
from ssmith.core.sequences import Sequences
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation import ParityReport, check, forward_difference
from ssmith.evaluation.language_parity import (
    logits_difference,
    stepping_difference,
    stock_difference,
)
from ssmith.jobs.pilot.cut import Made, cut_difference
from ssmith.jobs.pilot.saving import open_saved
from ssmith.jobs.pilot.subject import Subject

# transformers computes norms and logits in float32; relative to the largest logit.
_STOCK_TOLERANCE = 2e-5
_CHECKED_TOKENS = 96


def parity_of(made: Made, left: nn.Module, saved: Path, subject: Subject) -> ParityReport:
    """Compare the ways to a cut model.

    ``left`` is the model in the end: the cut one, or that after its recovery.
    """
    rows, dense = subject.selection, subject.model
    if isinstance(rows, TokenWindows):
        return _of_text(made, left, saved, rows)
    masked = None if made.masked is None else made.masked()
    if isinstance(rows, Sequences) and masked is not None:
        return api.parity(masked, made.model, saved, rows, recovered=left)
    checks = (
        []
        if masked is None
        else [check("shrunk_vs_masked", lambda: forward_difference(masked, made.model, rows))]
    )
    checks.append(
        check(
            "saved_vs_loaded",
            lambda: forward_difference(left, open_saved(saved, dense), rows),
            tolerance=0.0,
        )
    )
    return ParityReport(checks=tuple(checks))


def _of_text(made: Made, left: nn.Module, saved: Path, windows: TokenWindows) -> ParityReport:
    ids = windows.first(2).ids[:, :_CHECKED_TOKENS]
    checks = [
        check("step_vs_scan", lambda: stepping_difference(left, ids)),
        check(
            "saved_vs_loaded", lambda: logits_difference(left, api.load(saved), ids), tolerance=0.0
        ),
        check("cut_stays_cut", lambda: cut_difference(api.load(saved), made.plan), tolerance=0.0),
        check("engine_vs_stock", lambda: stock_difference(left, ids), tolerance=_STOCK_TOLERANCE),
    ]
    return ParityReport(checks=tuple(checks))
