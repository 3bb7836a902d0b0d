"""The gradient of a scan where only its offsets are trained: no states are needed for it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

OFFSETS = frozenset({"h_offset", "y_offset"})
"""Inputs that leave the recurrence alone."""


def tracked_offsets(
    y: Float[Tensor, "b l e"],
    C: Float[Tensor, "b l n"] | None,
    z: Float[Tensor, "b l e"] | None,
    h_offset: Float[Tensor, "n e"] | None,
    y_offset: Float[Tensor, "e"] | None,
) -> Float[Tensor, "b l e"]:
    """Return the outputs of a scan with the gradient of its offsets attached.

    Args:
        y: outputs that the offsets are already in.
        C: read-out rows; only a gradient of ``y_offset`` can do without.
        z: gate logits; None for no gate.
        h_offset: added to the state in the read-out, state-major.
        y_offset: added to the output before the gate.

    Returns:
        The same values. Of the inputs only C and z are kept for the backward.
    """
    tracked: Tensor = _Offsets.apply(y, C, z, h_offset, y_offset)  # type: ignore[no-untyped-call]
    return tracked


class _Offsets(torch.autograd.Function):
    """``y = … + (C·h′ + y′)·SiLU(z)``, linear in both offsets."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, C: Tensor | None, z: Tensor | None, *offsets: Tensor | None
    ) -> Tensor:
        del offsets
        ctx.save_for_backward(C, z)
        return y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        C, z = ctx.saved_tensors
        gated = dy if z is None else dy * functional.silu(z)
        _, _, _, wants_h, wants_y = ctx.needs_input_grad
        dh = C.flatten(0, 1).mT @ gated.flatten(0, 1) if wants_h else None
        return None, None, None, dh, gated.sum((0, 1)) if wants_y else None
