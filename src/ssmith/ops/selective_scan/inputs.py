"""What a selective scan takes: one frozen record for every twin."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from ssmith.core.errors import InputError
from ssmith.ops.shapes import check_shapes


@dataclass(frozen=True, kw_only=True)
class ScanInputs:
    """Inputs of one selective scan, time-major.

    Args:
        x: the convolved, activated input.
        dt: step sizes, or their logits where ``dt_softplus`` is set; where ``dt_weight`` is given,
            (b, l, r): what it is multiplied with.
        A: continuous eigenvalues, usually negative.
        B: input rows, one per step.
        C: read-out rows, one per step.
        D: skip weights; None for no skip.
        z: gate logits; None for no gate.
        dt_bias: added to ``dt`` before the softplus.
        dt_weight: Mamba's ``dt_proj``: the logits are ``dt @ dt_weight.T``. The CPU kernels form
            them as they go where no gradient is tracked; elsewhere they are formed at once.
        dt_softplus: whether ``dt`` (plus bias) goes through softplus.
        h0: the state before the first step; None for zero.
        h_offset: added to the state in the read-out only, never fed back.
        y_offset: added to the output of every step, before the gate.
        valid: False where a step is padding: its Δ is 0, so it leaves the state exactly as it was.
    """

    x: Float[Tensor, "b l e"]
    dt: Float[Tensor, "b l _"]
    A: Float[Tensor, "e n"]
    B: Float[Tensor, "b l n"]
    C: Float[Tensor, "b l n"]
    D: Float[Tensor, "e"] | None = None
    z: Float[Tensor, "b l e"] | None = None
    dt_bias: Float[Tensor, "e"] | None = None
    dt_weight: Float[Tensor, "e r"] | None = None
    dt_softplus: bool = False
    h0: Float[Tensor, "b e n"] | None = None
    h_offset: Float[Tensor, "e n"] | None = None
    y_offset: Float[Tensor, "e"] | None = None
    valid: Bool[Tensor, "b l"] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that are given, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    @property
    def logits(self) -> Float[Tensor, "b l e"]:
        """``dt`` for every channel."""
        return self.dt if self.dt_weight is None else functional.linear(self.dt, self.dt_weight)

    def expanded(self) -> ScanInputs:
        """Return the same inputs with ``dt`` for every channel."""
        return self if self.dt_weight is None else replace(self, dt=self.logits, dt_weight=None)

    def check(self) -> None:
        """Raise `InputError`, naming the first tensor whose shape or device does not fit."""
        if self.x.ndim != 3 or self.A.ndim != 2:
            raise InputError(
                f"x has shape {tuple(self.x.shape)} and A {tuple(self.A.shape)}",
                allowed="x (b, l, e) and A (e, n)",
            )
        b, length, e = self.x.shape
        n, r = self.A.shape[1], e if self.dt_weight is None else self.dt_weight.shape[-1]
        wanted = {
            "x": (b, length, e), "dt": (b, length, r), "z": (b, length, e), "A": (e, n),
            "B": (b, length, n), "C": (b, length, n), "D": (e,), "dt_bias": (e,),
            "dt_weight": (e, r), "h0": (b, e, n), "h_offset": (e, n), "y_offset": (e,),
            "valid": (b, length),
        }  # fmt: skip
        check_shapes(vars(self), wanted)
        for name, tensor in self.tensors().items():
            if tensor.device != self.x.device:
                raise InputError(
                    f"{name} is on {tensor.device}", allowed=f"{self.x.device}, as x is"
                )
