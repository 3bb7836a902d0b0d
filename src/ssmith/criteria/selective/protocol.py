"""What a criterion for selective layers is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float64
from torch import Tensor

from ssmith.core.selective import LayerWeights, Statistics
from ssmith.ops.selective_scan import ScanInputs


@runtime_checkable
class SelectiveCriterion(Protocol):
    """Says how much each entry of A_log, or each state column, matters to one layer.

    Settings are dataclass fields. What it needs of the data it gathers from scan inputs, batch
    after batch; the gathered sums are added up by whoever runs the data.
    """

    @property
    def label(self) -> str:
        """Name for plots and tables."""

    @property
    def needs_data(self) -> bool:
        """Whether it gathers anything."""

    @property
    def lockstep(self) -> bool:
        """Whether it needs all windows in one batch: it combines them step by step."""

    @property
    def scores_columns(self) -> bool:
        """Whether it is defined for columns; every one is for entries."""

    @property
    def scores_output(self) -> bool:
        """Whether scores are energies of the layer's output, the same unit in every layer."""

    def gather_entries(self, scan: ScanInputs, weights: LayerWeights, removed: int) -> Statistics:
        """Return what one batch says about entries, of which ``removed`` are to go."""

    def entries(self, gathered: Statistics, weights: LayerWeights) -> Float64[Tensor, "e n"]:
        """Score every entry of A_log; larger is kept longer."""

    def gather_columns(self, scan: ScanInputs, weights: LayerWeights, removed: int) -> Statistics:
        """Return what one batch says about columns, of which ``removed`` are to go."""

    def columns(self, gathered: Statistics, weights: LayerWeights) -> Float64[Tensor, "n"]:
        """Score every state column; larger is kept longer."""
