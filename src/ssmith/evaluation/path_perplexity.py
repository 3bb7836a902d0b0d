"""The perplexity of a language model must not depend on which path its scans take."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ssmith.core.errors import NumericalError
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.path_checks import PERPLEXITY, PathCheck
from ssmith.evaluation.perplexity import window_losses
from ssmith.families.paths import on_path, scan_backends

# exp of more is no float64.
_LARGEST = 700.0


def perplexity_checks(model: Any, text: TokenWindows) -> Iterator[PathCheck]:
    """Compare the perplexity of one text on every path with the reference's.

    Args:
        model: a language model.
        text: what it is to predict.

    Yields:
        One comparison for each path; the difference is relative.
    """
    losses = {}
    for backend in scan_backends(model):
        with on_path(backend):
            losses[backend] = _mean_loss(model, text)
    judge = losses.pop("reference")
    for backend, loss in losses.items():
        yield PathCheck(
            name=f"perplexity of {text.scored:,} tokens: {_said(loss)} on {backend} against "
            f"{_said(judge)} on reference",
            difference=abs(math.expm1(loss - judge)) if math.isfinite(loss - judge) else math.inf,
            tolerance=PERPLEXITY,
        )


def _said(loss: float) -> str:
    return f"{math.exp(loss):.6g}" if loss < _LARGEST else "no number"


def _mean_loss(model: Any, text: TokenWindows) -> float:
    """Return the mean loss per counted token in nats; not a number where the model fails."""
    try:
        return float(window_losses(model, text).sum()) / text.scored
    except NumericalError:
        return math.nan
