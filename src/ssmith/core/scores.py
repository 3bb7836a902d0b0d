"""Scores: how much each unit matters, and within which pool it may be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.core.findings import Finding

Pool = Literal["model", "layer"]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One number per unit; a larger score is kept longer.

    Args:
        unit: what is scored, e.g. ``"states"``.
        values: per layer, the scores in the layer's grid. Finite everywhere.
        pool: ``"model"`` if scores may be compared across layers under one global threshold,
            ``"layer"`` if only within a layer (each layer then loses the same share).
        protected: per layer, True where a unit must be kept because it cannot be ranked
            (an unstable mode); such a unit's value carries no meaning.
        absent: per layer, True where a unit is already masked off; it stays off.
        criterion: name and settings of the criterion, JSON-ready, for plans and receipts.
        findings: everything that was excepted, with its reason.
    """

    unit: str
    values: dict[str, Float64[Tensor, "..."]]
    pool: Pool
    protected: dict[str, Bool[Tensor, "..."]]
    absent: dict[str, Bool[Tensor, "..."]]
    criterion: dict[str, Any]
    findings: tuple[Finding, ...] = ()
