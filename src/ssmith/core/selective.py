"""What is cut in a selective layer, what a cut entry means, and what a pass over data leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ssmith.core.checks import check_choice

ENTRY = "entry"
"""One state of one channel of a selective layer: an entry of A_log, grid (e, n)."""

Semantics = Literal["remove", "project", "memoryless", "unit-decay", "fast-decay"]
"""What a cut state or entry does.

``remove``: there is no state (whole states only: B and C are shared by the channels).
``project``: it is mixed into those that stay (states of Mamba-2's groups).
``memoryless``: Ā = 0, so ``h_t = Δ_t B_t x_t`` (A → −∞).
``unit-decay``: A = −1, a slow but living state; what released code leaves behind an entry that is
set to zero.
``fast-decay``: A = −exp(10), dead unless Δ is tiny.
"""
STORED_A_LOG: dict[str, float] = {"memoryless": 38.0, "unit-decay": 0.0, "fast-decay": 10.0}
"""The A_log that every implementation runs as that semantics.

``exp(−Δ·exp(38))`` is exactly 0 for every Δ ≥ 1e-14; minus infinity would give NaN at Δ = 0.
"""

Statistics = dict[str, Tensor]
"""Sums over windows, by name; the sum of two batches' statistics is that of both together."""


def check_entry_semantics(value: object) -> None:
    """Raise `InputError` unless entries of A_log can be cut with these semantics."""
    check_choice("semantics", value, tuple(STORED_A_LOG))


def check_semantics(value: object) -> None:
    """Raise `InputError` unless these are semantics."""
    check_choice("semantics", value, get_args(Semantics))


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """What criteria read of a selective layer beside its statistics.

    Args:
        layer: dotted name.
        A_log: log of the continuous decay rates.
        out_weight: W_out, of ``out_proj``.
        present: False where an entry has been cut before.
    """

    layer: str
    A_log: Float64[Tensor, "e n"]
    out_weight: Float[Tensor, "m e"]
    present: Bool[Tensor, "e n"]

    @cached_property
    def out_energy(self) -> Float64[Tensor, "e"]:
        """‖W_out[:, e]‖², what a unit of a channel's output adds to the layer's."""
        return self.out_weight.double().square().sum(0).cpu()


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Statistics of a stage over all windows, and over their first and second half.

    Args:
        sums: over all windows.
        halves: over the first and the second half; None where there is a single window, or where
            the statistics are no sums.
    """

    sums: Statistics
    halves: tuple[Statistics, Statistics] | None = None


@dataclass(frozen=True, kw_only=True)
class BlockRecord:
    """What one stage decided about one layer.

    Args:
        layer: dotted name of the layer.
        stage: name of the stage.
        keep: True = keep, per unit: ``"entry"`` (e, n), ``"state"`` (n,), or the name of a weight,
            in its shape.
        facts: JSON-ready numbers for the receipt (losses, stability, counts).
        values: real numbers that the plan is made of, beside what the layer itself became.
    """

    layer: str
    stage: str
    keep: dict[str, Bool[Tensor, "..."]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Float64[Tensor, "..."]] = field(default_factory=dict)
