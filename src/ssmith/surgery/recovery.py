"""Recovery without gradients: what a cut took from a layer's output, given back in closed form.

Per channel the removed contribution is regressed on a constant, the channel's input ``x_t`` and the
read-outs ``C_t``, weighted as the gate weighs the output. The coefficients are y′, ΔD and h′:
``y_t = C_t·(h_t + h′) + (D + ΔD)·x_t + y′``. ΔD goes into the checkpoint; h′ and y′ are the offsets
of State-offset Tuning.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from ssmith.core.checks import check_choice, check_number
from ssmith.core.errors import InputError, NumericalError
from ssmith.core.selective import Statistics
from ssmith.families.mamba.selective import SelectiveLayer

TERMS = ("D", "h", "y")
"""What can be refitted: the skip weight, the state offset, the output offset."""


@dataclass(frozen=True, kw_only=True)
class Regained:
    """What gives a layer back some of what it lost.

    ``D`` is added to the skip weights, ``h`` and ``y`` are the offsets h′ and y′, None where not
    refitted. ``before`` and ``after`` are squared errors of the gated outputs over the data it was
    fitted to, without and with it.
    """

    D: Float64[Tensor, "e"]
    h: Float64[Tensor, "e n"] | None
    y: Float64[Tensor, "e"] | None
    before: float
    after: float


@torch.no_grad()
def recovery(sums: Statistics, terms: Collection[str], ridge: float = 1e-6) -> Regained:
    """Solve for the chosen terms, each channel on its own.

    ``sums`` are those of `calibrate.recovery.removed_contribution`; ``ridge`` is noise added to
    every feature as a share of its energy and pulls all terms to 0.

    Source: ridge regression; the terms are those of State-offset Tuning (arXiv 2503.03499).
    Differs: they are fitted to a cut layer's lost output, in closed form, not trained.
    """
    check_number("ridge", ridge, above=0)
    if not terms:
        raise InputError("no term to recover by", allowed="one or more of D, h, y")
    for term in terms:
        check_choice("term", term, TERMS)
    gram, right = sums["gram"], sums["right"]
    n = gram.shape[-1] - 2
    chosen = torch.tensor(["y" in terms, "D" in terms, *["h" in terms] * n], device=gram.device)
    index = chosen.nonzero().flatten()
    part, wanted = gram[:, index][:, :, index], right[:, index]
    energy = part.diagonal(dim1=-2, dim2=-1).clamp(min=0)
    scale = torch.where(energy > 0, energy.sqrt(), 1.0)
    steady = part / scale[:, None] / scale[:, :, None]
    steady = steady + torch.diag_embed(torch.where(energy > 0, ridge, 1.0))
    factor, failed = torch.linalg.cholesky_ex(steady)
    if bool(failed.any()):
        raise NumericalError(
            "the second moments of inputs and read-outs are not positive definite",
            next_step="raise the ridge, or calibrate on more text",
        )
    solved = torch.cholesky_solve((wanted / scale)[..., None], factor)[..., 0] / scale
    gained = 2 * (solved * wanted).sum() - torch.einsum("ei,eij,ej->", solved, part, solved)
    before = float(sums["energy"].sum())
    found = gram.new_zeros(len(gram), n + 2)
    found[:, index] = solved
    return Regained(
        D=found[:, 1],
        h=found[:, 2:] if "h" in terms else None,
        y=found[:, 0] if "y" in terms else None,
        before=before,
        after=max(before - float(gained), 0.0),
    )


@torch.no_grad()
def recover_(layer: SelectiveLayer, found: Regained) -> None:
    """Write a recovery into a layer: D into its weights, h′ and y′ beside them.

    Offsets it carries are added to.
    """
    mixer = layer.mixer
    mixer.D.add_(found.D.to(mixer.D))
    for name, value in (("state_offset", found.h), ("output_offset", found.y)):
        if value is not None:
            old = getattr(mixer, name, None)
            placed = value.to(mixer.D)
            mixer.register_buffer(name, placed if old is None else old + placed)
