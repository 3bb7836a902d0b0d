"""What one step of a whole mixer takes."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ssmith.ops.shapes import check_shapes


@dataclass(frozen=True, kw_only=True)
class MixerStepInputs:
    """Inputs of one step of a Mamba mixer that has a past; s stands for r + 2·n rows, d for 2·e.

    ``in_weight`` holds the rows of the convolution's input, then of the gate; ``x_weight`` those of
    Δ's factor, of B and of C; ``conv_state`` the last k inputs of the convolution, the newest last.
    That and the state ``h`` are advanced in place; offsets act in the read-out only.
    """

    hidden: Float[Tensor, "b m"]
    in_weight: Float[Tensor, "d m"]
    conv_weight: Float[Tensor, "e k"]
    x_weight: Float[Tensor, "s e"]
    dt_weight: Float[Tensor, "e r"]
    A_log: Float[Tensor, "e n"]
    out_weight: Float[Tensor, "m e"]
    conv_state: Float[Tensor, "b e k"]
    h: Float[Tensor, "b e n"]
    in_bias: Float[Tensor, "d"] | None = None
    conv_bias: Float[Tensor, "e"] | None = None
    dt_bias: Float[Tensor, "e"] | None = None
    D: Float[Tensor, "e"] | None = None
    out_bias: Float[Tensor, "m"] | None = None
    h_offset: Float[Tensor, "e n"] | None = None
    y_offset: Float[Tensor, "e"] | None = None

    def check(self) -> None:
        """Raise `InputError`, naming the first tensor whose shape does not fit."""
        b, m = self.hidden.shape
        e, n = self.A_log.shape
        r, k = self.dt_weight.shape[1], self.conv_weight.shape[1]
        wanted = {
            "hidden": (b, m), "in_weight": (2 * e, m), "in_bias": (2 * e,), "conv_weight": (e, k),
            "conv_bias": (e,), "x_weight": (r + 2 * n, e), "dt_weight": (e, r), "dt_bias": (e,),
            "A_log": (e, n), "D": (e,), "out_weight": (m, e), "out_bias": (m,),
            "conv_state": (b, e, k), "h": (b, e, n), "h_offset": (e, n), "y_offset": (e,),
        }  # fmt: skip
        check_shapes(vars(self), wanted)
