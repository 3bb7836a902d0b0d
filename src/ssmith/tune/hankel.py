"""A loss term that makes layers reducible: their Hankel singular values, few large and most small.

How many states a layer needs is how slowly its Hankel singular values fall; a short training with
this term before a cut lets them fall faster.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from ssmith.core.errors import ModelError, NumericalError
from ssmith.core.gramian import controllability, observability
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout
from ssmith.families import LTILayer, find_layers

STEADY = 1e-9
"""Added to a Gramian's diagonal, as a share of its mean, so that it has a Cholesky factor."""


def hankel_penalty(model: nn.Module) -> Float64[Tensor, ""]:
    """Return the mean over layers of ``Σσ/‖σ‖₂``, a soft count of the states a layer needs.

    One if a single Hankel singular value σ carries all, √k if k carry alike; scaling a layer
    changes nothing. A SISO layer counts each channel, weighted by its share of ``Σσ``.

    Source: Hankel singular value regularisation (arXiv 2510.22951), which adds ``Σσ``.
    Differs: relative to ``‖σ‖₂``, so that the term cannot be met by making a layer quiet; for
        complex diagonal layers, in both directions of time.
    """
    layers = [layer for layer in find_layers(model).values() if layer.n_states]
    if not layers:
        raise ModelError(
            "there is no state space layer with states", next_step="train without hankel"
        )
    counts = []
    for layer in layers:
        values = hankel_values(layer)
        total = values.sum(-1)
        need = total / (values**2).sum(-1).sqrt().clamp(min=1e-30)
        counts.append((need * total).sum() / total.sum().clamp(min=1e-30))
    return torch.stack(counts).mean()


def hankel_values(layer: LTILayer) -> Float64[Tensor, "g k"]:
    """Return a layer's Hankel singular values, rising, of which gradients can be taken.

    Both directions of a bidirectional layer share their states: their read-outs are stacked. A MIMO
    layer is one group, a SISO one has one for each channel; masked states count as zero.
    """
    modes = _live_modes(layer)
    layout = Layout.of(modes)
    P, Q = controllability(layout, modes), observability(layout, modes)
    eye = torch.eye(P.shape[-1], dtype=P.dtype, device=P.device)
    steady = STEADY * P.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-30)
    factor, failed = torch.linalg.cholesky_ex(P + steady.view(-1, 1, 1) * eye)
    if bool(failed.any()) or not bool(torch.isfinite(Q.detach()).all()):
        raise NumericalError(
            "a layer's Gramian is not finite or not positive",
            next_step="lower ssm_lr, or set clip_eigs so that states stay stable",
        )
    squares = torch.linalg.eigvalsh(factor.mT @ Q @ factor)
    # The root's slope is infinite at zero, where rounding ends anyway.
    floor = (1e-12 * squares.detach().amax(-1, keepdim=True)).clamp(min=1e-60)
    values: Tensor = squares.clamp(min=floor).sqrt()
    return values


def _live_modes(layer: LTILayer) -> Modes:
    """Return a layer's modes with their gradients, both read-outs stacked as outputs."""
    own = layer.live_modes(layer.family)
    on = own.present.to(own.A_bar.device).unsqueeze(-1)
    reads = [own.C] if own.C_back is None else [own.C, own.C_back]
    return replace(
        own,
        B_bar=own.B_bar * on,
        C=torch.cat(reads, dim=1) * on,
        C_back=None,
        present=torch.ones_like(on[:, 0]),
    )
