"""What a criterion over modes is, and does: check, set aside the unrankable, lay out in grids."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.core.errors import InputError, NumericalError
from ssmith.core.findings import Finding
from ssmith.core.layers import STATE, Modes
from ssmith.core.scores import Pool, Scores

Measure = Callable[[Modes], Float64[Tensor, "s"]]


@runtime_checkable
class Criterion(Protocol):
    """Says how much each unit matters; never touches a model, a file or a device.

    Settings are dataclass fields. `needs` names the calibration statistics it reads; a criterion
    that reads none is data-free.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the statistics it reads: ``"moments"``, ``"sensitivity"``; () for none."""

    @property
    def label(self) -> str:
        """Name for plots and tables."""

    def __call__(
        self, layers: Sequence[Modes], stats: Mapping[str, object] | None = None
    ) -> Scores:
        """Score every unit of every layer."""


class ModeCriterion(ABC):
    """A criterion that looks at one mode at a time, and reads no statistics."""

    needs: ClassVar[tuple[str, ...]] = ()
    pool: Pool = "model"

    def __call__(
        self, layers: Sequence[Modes], stats: Mapping[str, object] | None = None
    ) -> Scores:
        """Score every mode; no statistics are read."""
        return score_modes(self, layers, self._measure, self.pool)

    @abstractmethod
    def _measure(self, modes: Modes) -> Float64[Tensor, "s"]:
        """Return one score per mode of a layer."""


def score_modes(criterion: Any, layers: Sequence[Modes], measure: Measure, pool: Pool) -> Scores:
    """Score the modes of every layer.

    ``measure`` sees only modes that can be ranked: present and stable. Modes that a mask has
    already switched off come back as absent, unstable ones as protected with a finding; both
    have the value 0 and take no part in any normalisation.

    ``measure`` returns one score ≥ 0 per mode of one layer, larger is kept longer; the criterion's
    name and settings are recorded.
    """
    names = [modes.layer for modes in layers]
    if not names or len(set(names)) != len(names):
        raise InputError(
            f"layers to score are {names}", allowed="one or more layers with different names"
        )
    values, protected, absent = {}, {}, {}
    findings: list[Finding] = []
    for modes in layers:
        _check_finite(modes)
        unstable = modes.is_unstable() & modes.present
        score = _measure_rankable(modes, modes.present & ~unstable, measure)
        values[modes.layer] = score.reshape(modes.grid)
        protected[modes.layer] = unstable.reshape(modes.grid)
        absent[modes.layer] = (~modes.present).reshape(modes.grid)
        findings.extend(_findings(modes, unstable, score))
    return Scores(
        unit=STATE,
        values=values,
        pool=pool,
        protected=protected,
        absent=absent,
        criterion={"name": type(criterion).__name__, **dataclasses.asdict(criterion)},
        findings=tuple(findings),
    )


def _check_finite(modes: Modes) -> None:
    tensors = {"A_bar": modes.A_bar, "B_bar": modes.B_bar, "C": modes.C, "C_back": modes.C_back}
    for name, tensor in tensors.items():
        bad = 0 if tensor is None else int((~torch.isfinite(tensor)).sum())
        if tensor is not None and bad:
            raise NumericalError(
                f"layer {modes.layer}: {bad} of {tensor.numel()} values of {name} are not finite",
                next_step="load a checkpoint whose weights are finite; nothing was scored",
            )


def _measure_rankable(
    modes: Modes, rankable: Bool[Tensor, "s"], measure: Measure
) -> Float64[Tensor, "s"]:
    score = torch.zeros(modes.count, dtype=torch.float64)
    # Weights of a live model carry gradients; scores are numbers.
    with torch.no_grad():
        score[rankable] = measure(modes.only(rankable))
    bad = int((~torch.isfinite(score)).sum())
    if bad:
        raise NumericalError(
            f"layer {modes.layer}: {bad} of {modes.count} scores are not finite",
            next_step="look for weights of extreme size in this layer; nothing was pruned",
        )
    return score


def _findings(
    modes: Modes, unstable: Bool[Tensor, "s"], score: Float64[Tensor, "s"]
) -> list[Finding]:
    found = []
    rankable = modes.present & ~unstable
    if bool(unstable.any()):
        units = tuple(int(index) for index in unstable.nonzero().flatten())
        found.append(
            Finding(
                layer=modes.layer,
                kind="unstable",
                message=f"layer {modes.layer}: {len(units)} of {modes.count} states have |λ̄| ≥ 1; "
                "they cannot be ranked and are kept",
                units=units,
            )
        )
    if bool(rankable.any()) and not bool(score[rankable].any()):
        found.append(
            Finding(
                layer=modes.layer,
                kind="silent",
                message=f"layer {modes.layer}: every state that can be ranked scores 0, "
                "so the layer may lose all of them",
            )
        )
    return found
