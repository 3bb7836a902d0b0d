"""Parity: two ways to compute the same thing must agree, in float64, to a stated tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.files import finite_or_none
from ssmith.core.rows import Rows
from ssmith.core.running import evaluating
from ssmith.core.sections import ParitySection
from ssmith.core.sequences import Sequences
from ssmith.evaluation.predict import answered
from ssmith.evaluation.running import double_copy, inputs_for, stepping

TOLERANCE = 1e-10
"""Largest absolute difference in float64 that counts as equal."""

FEW = 8
"""Rows that are compared at most."""


def max_difference(a: Tensor, b: Tensor) -> float:
    """Return the largest absolute difference; infinity if either holds NaN or an infinity."""
    if a.shape != b.shape:
        raise InputError(
            f"shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared",
            allowed="outputs of the same sequences",
        )
    if not bool(a.isfinite().all()) or not bool(b.isfinite().all()):
        return math.inf
    wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
    return float((a.to(wide) - b.to(wide)).abs().max()) if a.numel() else 0.0


def forward_difference(a: nn.Module, b: nn.Module, rows: Rows) -> float:
    """Return the largest difference of two networks' outputs on a few rows, in float64 copies."""
    batch, outputs = rows.batch(rows.ranges(FEW)[0]), []
    for model in (double_copy(a), double_copy(b)):
        with evaluating(model):
            outputs.append(answered(model, rows, batch))
    return max_difference(*outputs)


def step_vs_scan(model: nn.Module, part: Sequences) -> float:
    """Return the largest difference between stepping through time and one full pass.

    Each sequence is judged at its last valid step, in a float64 copy of the model.
    """
    twin = double_copy(model)
    x, lengths = inputs_for(twin, part)
    with evaluating(twin):
        stepper = stepping(twin)
        state = stepper.initial_state(len(part))
        last: Tensor | None = None
        for t in range(int(lengths.max())):
            out, state = stepper.step(x[:, t], state)
            ended = (lengths == t + 1).unsqueeze(1)
            last = torch.where(ended, out, torch.zeros_like(out) if last is None else last)
        whole = twin(x, lengths)
    if last is None:
        raise InputError("the sequences have no step", allowed="lengths ≥ 1")
    return max_difference(last, whole)


@dataclass(frozen=True, kw_only=True)
class ParityCheck:
    """One check.

    Args:
        name: the two ways, e.g. ``"shrunk_vs_masked"``.
        worst: largest difference, infinite if an output is not finite; None if it was not measured.
        tolerance: largest difference allowed, ≥ 0.
        why_null: why it was not measured.
    """

    name: str
    worst: float | None
    tolerance: float = TOLERANCE
    why_null: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether the difference is within the tolerance; None if it was not measured."""
        return None if self.worst is None else self.worst <= self.tolerance


def compared(
    name: str, got: Float[Tensor, "..."], wanted: Float[Tensor, "..."], tolerance: float
) -> ParityCheck:
    """Return the check of two ways to the same outputs, in units of the largest (or of 1)."""
    scale = float(wanted.abs().max().clamp_min(1.0)) if bool(wanted.isfinite().all()) else 1.0
    return ParityCheck(name=name, worst=max_difference(got, wanted) / scale, tolerance=tolerance)


def check(name: str, measure: Callable[[], float], tolerance: float = TOLERANCE) -> ParityCheck:
    """Measure one check; what the model does not support is recorded with the reason.

    ``measure`` returns the largest absolute difference.
    """
    try:
        return ParityCheck(name=name, worst=measure(), tolerance=tolerance)
    except UnsupportedError as error:
        return ParityCheck(name=name, worst=None, tolerance=tolerance, why_null=error.what)


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """All parity checks of one action, with distinct names, in a dtype."""

    checks: tuple[ParityCheck, ...]
    dtype: str = "float64"

    @property
    def measured(self) -> tuple[ParityCheck, ...]:
        """The checks that were measured."""
        return tuple(item for item in self.checks if item.worst is not None)

    @property
    def failed(self) -> tuple[ParityCheck, ...]:
        """The checks beyond their tolerance."""
        return tuple(item for item in self.checks if item.passed is False)

    @property
    def passed(self) -> bool:
        """Whether something was measured and nothing failed."""
        return bool(self.measured) and not self.failed

    def section(self) -> ParitySection:
        """Return the parity section of a receipt; a difference that is not finite is null."""
        why = {item.name: item.why_null for item in self.checks if item.worst is None}
        for item in self.measured:
            if item.worst is not None and not math.isfinite(item.worst):
                why[item.name] = "outputs are not finite: failed"
        return ParitySection(
            dtype=self.dtype,
            worst={item.name: finite_or_none(item.worst) for item in self.checks},
            tolerance=max((item.tolerance for item in self.checks), default=TOLERANCE),
            tolerances={item.name: item.tolerance for item in self.checks},
            passed=self.passed,
            why_null=why,
        )
