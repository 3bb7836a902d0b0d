"""What a criterion for selective layers is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from ssmith.core.selective import LayerWeights, Statistics
from ssmith.ops.selective_scan import ScanInputs

Gather = Callable[[ScanInputs, LayerWeights, int], Statistics]
"""Returns what one batch says about units, of which a number are to go."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How one kind of unit is scored: sums over batches in, one score per unit out.

    Args:
        score: of every unit, larger is kept longer: (e, n) of entries of A_log, (n,) of columns.
        gather: what it needs of the data; whoever runs the data adds the batches up. None for
            nothing.
        lockstep: whether it needs all windows in one batch: it combines them step by step.
        of_output: whether scores are energies of the layer's output, the same unit in every layer.
    """

    score: Callable[[Statistics, LayerWeights], Tensor]
    gather: Gather | None = None
    lockstep: bool = False
    of_output: bool = False


@runtime_checkable
class SelectiveCriterion(Protocol):
    """Says how much each entry of A_log, or each state column, matters to one layer.

    Settings are dataclass fields.
    """

    @property
    def label(self) -> str:
        """Name for plots and tables."""

    @property
    def entries(self) -> Scoring:
        """How entries of A_log are scored."""

    @property
    def columns(self) -> Scoring | None:
        """How state columns are scored; None where that is not defined."""
