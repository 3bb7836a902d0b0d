"""What one step of a whole mixer takes."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ssmith.ops.shapes import check_shapes


@dataclass(frozen=True, kw_only=True)
class MixerStepInputs:
    """Inputs of one step of a Mamba mixer that has a past; s stands for r + 2·n rows.

    Args:
        hidden: what enters the mixer.
        in_weight: rows of the convolution's input, then of the gate; d stands for 2·e.
        in_bias: of ``in_weight``; None for none.
        conv_weight: taps of each channel, the last one acting on this step.
        conv_bias: added to each channel; None for none.
        x_weight: rows of Δ's factor, of B and of C.
        dt_weight: what makes Δ's logits of its factor.
        dt_bias: added to Δ's logits; None for none.
        A_log: log(−A) of the continuous eigenvalues.
        D: skip weights; None for no skip.
        out_weight: what leaves the mixer.
        out_bias: of ``out_weight``; None for none.
        conv_state: the last k inputs of the convolution, the newest last; advanced in place.
        h: the state; advanced in place.
        h_offset: added to the state in the read-out only.
        y_offset: added to the output before the gate.
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
