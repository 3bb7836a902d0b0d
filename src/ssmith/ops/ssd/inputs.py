"""What the state space dual form takes: one frozen record for every twin."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from ssmith.core.errors import InputError
from ssmith.ops.shapes import check_shapes


@dataclass(frozen=True, kw_only=True)
class SSDInputs:
    """Inputs of one Mamba-2 scan, time-major and by head; what is not said is as in `ScanInputs`.

    Args:
        A: one continuous eigenvalue per head, usually negative.
        B: input rows of each group, as ``C`` the read-out rows; h is a multiple of g.
        dt_limit: the range step sizes are clamped to, on every path alike.
    """

    x: Float[Tensor, "b l h p"]
    dt: Float[Tensor, "b l h"]
    A: Float[Tensor, "h"]
    B: Float[Tensor, "b l g n"]
    C: Float[Tensor, "b l g n"]
    D: Float[Tensor, "h"] | None = None
    dt_bias: Float[Tensor, "h"] | None = None
    dt_softplus: bool = False
    dt_limit: tuple[float, float] = (0.0, math.inf)
    h0: Float[Tensor, "b h p n"] | None = None
    h_offset: Float[Tensor, "h p n"] | None = None
    valid: Bool[Tensor, "b l"] | None = None

    def check(self) -> None:
        """Raise `InputError`, naming the first tensor whose shape does not fit."""
        if self.x.ndim != 4 or self.B.ndim != 4 or self.x.shape[2] % max(self.B.shape[2], 1):
            raise InputError(
                f"x has shape {tuple(self.x.shape)} and B {tuple(self.B.shape)}",
                allowed="x (b, l, h, p) and B (b, l, g, n) with h a multiple of g",
            )
        b, length, h, p = self.x.shape
        g, n = self.B.shape[2:]
        wanted = {
            "x": (b, length, h, p), "dt": (b, length, h), "A": (h,), "D": (h,),
            "B": (b, length, g, n), "C": (b, length, g, n), "dt_bias": (h,),
            "h0": (b, h, p, n), "h_offset": (h, p, n), "valid": (b, length),
        }  # fmt: skip
        check_shapes(vars(self), wanted)

    def step_sizes(self) -> Float[Tensor, "b l h"]:
        """Return Δ after bias, softplus, clamp and padding."""
        dt = self.dt if self.dt_bias is None else self.dt + self.dt_bias
        dt = functional.softplus(dt) if self.dt_softplus else dt
        low, high = self.dt_limit
        if low > 0.0 or high < math.inf:
            dt = dt.clamp(low, high)
        return dt if self.valid is None else dt * self.valid[:, :, None]

    def start(self) -> Float[Tensor, "b h p n"]:
        """Return the state before the first step."""
        if self.h0 is not None:
            return self.h0
        b, _, h, p = self.x.shape
        return self.x.new_zeros(b, h, p, self.B.shape[3])
