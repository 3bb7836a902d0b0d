"""The gradient of a scan where only its offsets are trained: no states are needed for it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ssmith.ops.once import once

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

    ``y`` holds the offsets already. Only C and z are kept for the backward; a gradient of
    ``y_offset`` alone can do without C.
    """
    tracked: Tensor = _Offsets.apply(y, C, z, h_offset, y_offset)  # type: ignore[no-untyped-call]
    return tracked


class _Offsets(torch.autograd.Function):
    """``y = … + (C·h′ + y′)·SiLU(z)``, linear in both offsets."""

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, C: Tensor | None, z: Tensor | None, *offsets: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(C, z)
        return y.view_as(y)

    @staticmethod
    @once("the selective scan")
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        C, z = ctx.saved_tensors
        gated = dy if z is None else dy * functional.silu(z)
        _, _, _, wants_h, wants_y = ctx.needs_input_grad
        dh = C.flatten(0, 1).mT @ gated.flatten(0, 1) if wants_h else None
        return None, None, None, dh, gated.sum((0, 1)) if wants_y else None
