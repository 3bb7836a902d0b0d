"""What every criterion over modes does: check, set aside the unrankable, lay out in grids."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.core.errors import InputError, NumericalError
from ssmith.core.layers import STATE, Finding, Modes
from ssmith.core.scores import Pool, Scores

Measure = Callable[[Modes], Float64[Tensor, "s"]]


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise unless a setting is one of the members of a ``Literal`` type."""
    allowed = get_args(choices)
    if value not in allowed:
        raise InputError(f"{name} is {value!r}", allowed=" or ".join(map(repr, allowed)))


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
        score[rankable] = measure(_select(modes, rankable))
    bad = int((~torch.isfinite(score)).sum())
    if bad:
        raise NumericalError(
            f"layer {modes.layer}: {bad} of {modes.count} scores are not finite",
            next_step="look for weights of extreme size in this layer; nothing was pruned",
        )
    return score


def _select(modes: Modes, chosen: Bool[Tensor, "s"]) -> Modes:
    return dataclasses.replace(
        modes,
        A_bar=modes.A_bar[chosen],
        B_bar=modes.B_bar[chosen],
        C=modes.C[chosen],
        C_back=None if modes.C_back is None else modes.C_back[chosen],
        channel=None if modes.channel is None else modes.channel[chosen],
        grid=(int(chosen.sum()),),
        present=modes.present[chosen],
    )


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
