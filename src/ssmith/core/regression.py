"""Least squares on moments: features scaled to one size, and steadied by a small ridge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from ssmith.core.errors import InputError, NumericalError
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout
from ssmith.core.moments import Moments

ROUNDING = 1e-24
"""Share of all features' energy at which a feature is rounding, like the imaginary part of a state
with a real eigenvalue: fitting it would need read-outs of any size."""


@dataclass(frozen=True, kw_only=True)
class System(Moments):
    """The regression of one layer: its moments in features of energy one.

    The Gram holds the ridge, and features that are always zero are replaced by independent ones
    that no output uses.

    Args:
        weight: the read-out there is, per feature; 0 at features that are always zero.
        silent: the read-out of features that are always zero, of which no data tells anything.
        scale: root mean square of each feature.
    """

    weight: Float64[Tensor, "g f o"]
    silent: Float64[Tensor, "g f o"]
    scale: Float64[Tensor, "g f"]


@torch.no_grad()
def system_of(layout: Layout, modes: Modes, moments: Moments, ridge: float) -> System:
    """Return a layer's regression in features of energy one.

    A ridge of ε acts as independent noise of ε times each feature's energy: it favours no state.
    """
    C = modes.C * modes.present.unsqueeze(-1)
    C_back = None if modes.C_back is None else modes.C_back * modes.present.unsqueeze(-1)
    weight = layout.weight(C, C_back)
    if moments.gram.shape[:2] != weight.shape[:2] or moments.error.shape != weight.shape:
        raise InputError(
            f"layer {modes.layer}: moments of shape {tuple(moments.error.shape)}",
            allowed=str(tuple(weight.shape)),
            next_step="calibrate the model as it is now",
        )
    energy = moments.gram.diagonal(dim1=-2, dim2=-1).clamp(min=0)
    dead = energy <= ROUNDING * energy.sum(-1, keepdim=True)
    scale = torch.where(dead, 1.0, energy.sqrt())
    gram = moments.gram / (scale.unsqueeze(-1) * scale.unsqueeze(-2))
    alive = ~dead
    gram = gram * (alive.unsqueeze(-1) & alive.unsqueeze(-2))
    # The diagonal makes a dead feature independent.
    gram = gram + torch.diag_embed(torch.where(dead, 1.0, ridge))
    column = scale.unsqueeze(-1)
    scaled = replace(
        moments,
        gram=gram,
        error=moments.error / column * alive.unsqueeze(-1),
        input=moments.input / column * alive.unsqueeze(-1),
    )
    return System(
        **vars(scaled),
        weight=torch.where(dead.unsqueeze(-1), 0.0, weight * column),
        silent=torch.where(dead.unsqueeze(-1), weight, 0.0),
        scale=scale,
    )


def solve_kept(
    gram: Float64[Tensor, "g f f"], right: Float64[Tensor, "g f o"], kept: Bool[Tensor, "g f"]
) -> Float64[Tensor, "g f o"]:
    """Solve ``gram_KK x_K = right_K``; 0 at features that are not kept."""
    on = kept.unsqueeze(-1)
    return torch.cholesky_solve(right * on, factor_kept(gram, kept)) * on


def factor_kept(
    gram: Float64[Tensor, "g f f"], kept: Bool[Tensor, "g f"]
) -> Float64[Tensor, "g f f"]:
    """Return the Cholesky factor of the kept part, the identity elsewhere.

    Filling up with the identity lets groups that keep different numbers be one batch.

    A kept part that is not positive definite is a `NumericalError`.
    """
    both = kept.unsqueeze(-1) & kept.unsqueeze(-2)
    part = gram * both + torch.diag_embed((~kept).to(gram.dtype))
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(part)
    if bool(failed.any()):
        raise NumericalError(
            "the second moments of the states are not positive definite",
            next_step="raise the ridge, or calibrate on more sequences",
        )
    return factor
