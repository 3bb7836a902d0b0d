"""How much each projection of a model loses: by sensitivity, or by measured loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.budget import check_fraction
from ssmith.core.convex import hull_slopes
from ssmith.core.errors import InputError

WIDEST = 24
"""At most so many modules at either end are moved."""


def by_sensitivity(
    sensitivities: Mapping[str, float], sparsity: float, width: float
) -> dict[str, float]:
    """Spread one sparsity over modules of a kind by their rank in sensitivity.

    Of m modules the ``n = min(24, m // 2)`` least sensitive keep ``1 − p − α`` … ``1 − p``, in even
    steps, the n most sensitive ``1 − p`` … ``1 − p + α``; those between keep ``1 − p``. The mean
    stays p.

    Source: SparseSSM (arXiv 2506.09613), released code, ``allocate_sparsity``.
    Differs: nothing; for n = 1 the middle of each range, as there.
    """
    check_fraction("sparsity", sparsity)
    if width < 0 or sparsity - width < 0 or sparsity + width >= 1:
        raise InputError(
            f"width {width:g} around sparsity {sparsity:g}",
            allowed="a width ≥ 0 that keeps every fraction in [0, 1)",
            next_step=f"at most {min(sparsity, 1 - sparsity):g} here",
        )
    ranked = sorted(sensitivities, key=lambda name: sensitivities[name])
    n = min(WIDEST, len(ranked) // 2)
    found = dict.fromkeys(sensitivities, sparsity)
    for place in range(n):
        # 1 at the very end of the ranking, 0 where the middle begins.
        share = 0.5 if n == 1 else 1 - place / (n - 1)
        found[ranked[place]] = sparsity + width * share
        found[ranked[-1 - place]] = sparsity - width * share
    return found


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """What cutting one module costs the model, measured.

    ``size`` counts the module's weights; losses are at rising sparsities from 0, on windows that
    were not calibrated on.
    """

    size: int
    sparsities: Float64[Tensor, "c"]
    losses: Float64[Tensor, "c"]


def by_marginal_loss(curves: Mapping[str, LossCurve], sparsity: float) -> dict[str, float]:
    """Spend one budget over modules where the measured loss rises least per weight.

    Each module's curve is taken along its lower convex hull; the hulls' segments are spent from
    the flattest on, the last one in part, so that the total is met to the weight.

    Returns the fraction to remove from each module, a whole number of its weights.

    Source: greedy marginal gains on convex hulls; optimal where losses of modules add.
    Differs: nothing.
    """
    check_fraction("sparsity", sparsity)
    for name, curve in curves.items():
        _check_curve(name, curve)
    budget = round(sparsity * sum(curve.size for curve in curves.values()))
    removed = dict.fromkeys(curves, 0)
    for _, _, name, reach in sorted(_segments(curves)):
        room = reach - removed[name]
        taken = min(room, budget)
        removed[name] += taken
        budget -= taken
    if budget > 0:
        most = max(float(curve.sparsities[-1]) for curve in curves.values())
        raise InputError(
            f"sparsity {sparsity:g} is beyond what was measured", allowed=f"at most {most:g}",
            next_step="measure losses at higher sparsities as well",
        )  # fmt: skip
    return {name: removed[name] / curves[name].size for name in curves}


def _segments(curves: Mapping[str, LossCurve]) -> Sequence[tuple[float, int, str, int]]:
    """Return slope per weight, order, module and weights removed at the end of every segment."""
    found = []
    for number, (name, curve) in enumerate(curves.items()):
        slopes = hull_slopes(curve.losses, curve.sparsities) / curve.size
        ends = [round(float(end) * curve.size) for end in curve.sparsities[1:]]
        for place, (slope, end) in enumerate(zip(slopes.tolist(), ends, strict=True)):
            found.append((slope, number * len(ends) + place, name, end))
    return found


def _check_curve(name: str, curve: LossCurve) -> None:
    rising = bool((curve.sparsities.diff() > 0).all()) and len(curve.sparsities) > 1
    finite = bool(torch.isfinite(curve.losses).all())
    if not rising or float(curve.sparsities[0]) != 0.0 or float(curve.sparsities[-1]) >= 1:
        raise InputError(
            f"{name}: losses at sparsities {curve.sparsities.tolist()}",
            allowed="0 and at least one more, rising, below 1",
        )
    if not finite:
        raise InputError(
            f"{name}: a loss is not finite", next_step="measure at lower sparsities only"
        )
