"""Energies a cut takes away: of the state, or of the layer's output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ssmith.core.selective import Statistics
from ssmith.criteria.selective.protocol import Gather, Scoring
from ssmith.ops.selective_scan import ScanInputs, StatisticsConfig, selective_scan_statistics


@dataclass(frozen=True, kw_only=True)
class OutputEnergy:
    """Energy the layer's output loses with an entry or a column.

    Entries, cut memoryless: ``E[(g C Ā h)²]·‖W_out[:, e]‖²``, where ``g = SiLU(z)`` and h is the
    state before the step. Columns, removed: ``Σ_e ‖W_out[:, e]‖²·E[(g C h)²]``, h after the step.

    Source: the recurrence is diagonal, so the change of ``y`` when Ā of some entries becomes 0 is
        exactly ``−Σ C Ā h`` over them, with the dense h; this is its diagonal.
    Differs: from SparseSSM (arXiv 2506.09613): the read-out C, the gate and the output projection
        are part of the objective, sequences and steps weigh the same, and Ā and h are averaged
        together, not one by one.
    """

    label: ClassVar[str] = "Output energy"

    @property
    def entries(self) -> Scoring:
        """How entries of A_log are scored."""
        return Scoring(
            gather=sums_of(StatisticsConfig(energies=("C_A_bar_h",), gated=True)),
            score=lambda sums, weights: (
                sums["C_A_bar_h"] / sums["weight"] * weights.out_energy[:, None]
            ),
            of_output=True,
        )

    @property
    def columns(self) -> Scoring:
        """How state columns are scored."""
        return Scoring(
            gather=sums_of(StatisticsConfig(energies=("C_h",), gated=True)),
            score=lambda sums, weights: weights.out_energy @ sums["C_h"] / sums["weight"],
            of_output=True,
        )


@dataclass(frozen=True, kw_only=True)
class StateEnergy:
    """Energy the state loses: ``E[(Ā h)²]`` per entry, ``Σ_e E[h²]`` per column.

    Source: SparseSSM (arXiv 2506.09613), second version, without its time weights.
    Differs: Ā and h are averaged together, and every sequence and step weighs the same.
    """

    label: ClassVar[str] = "State energy"

    @property
    def entries(self) -> Scoring:
        """How entries of A_log are scored."""
        return Scoring(
            gather=sums_of(StatisticsConfig(energies=("A_bar_h",))),
            score=lambda sums, _: sums["A_bar_h"] / sums["weight"],
        )

    @property
    def columns(self) -> Scoring:
        """How state columns are scored."""
        return Scoring(
            gather=sums_of(StatisticsConfig(energies=("h",))),
            score=lambda sums, _: sums["h"].sum(0) / sums["weight"],
        )


def sums_of(config: StatisticsConfig) -> Gather:
    """Return what gathers `gathered` of every batch."""
    return lambda scan, weights, removed: gathered(scan, config)


def gathered(scan: ScanInputs, config: StatisticsConfig) -> Statistics:
    """Run the scan once and return what was asked for, under the names of the quantities.

    Besides energies by quantity, ``"gram"`` and ``"apart"`` if asked for, and ``"weight"``, the
    weight of all steps.
    """
    _, _, found = selective_scan_statistics(scan, replace(config, outputs=False))
    sums: Statistics = dict(found.energies)
    for name, value in (("gram", found.gram), ("apart", found.apart)):
        if value is not None:
            sums[name] = value
    sums["weight"] = torch.tensor(found.weight, dtype=torch.float64)
    return sums
