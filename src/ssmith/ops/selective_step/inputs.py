"""What one step of a selective scan takes."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ssmith.ops.selective_scan.inputs import ScanInputs


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """Inputs of one step: the state before it, and those of `ScanInputs` without time."""

    h: Float[Tensor, "b e n"]
    x: Float[Tensor, "b e"]
    dt: Float[Tensor, "b e"]
    A: Float[Tensor, "e n"]
    B: Float[Tensor, "b n"]
    C: Float[Tensor, "b n"]
    D: Float[Tensor, "e"] | None = None
    z: Float[Tensor, "b e"] | None = None
    dt_bias: Float[Tensor, "e"] | None = None
    dt_softplus: bool = False
    h_offset: Float[Tensor, "e n"] | None = None
    y_offset: Float[Tensor, "e"] | None = None

    def as_scan(self) -> ScanInputs:
        """Return the scan of length one that does the same."""
        return ScanInputs(
            x=self.x[:, None], dt=self.dt[:, None], A=self.A, B=self.B[:, None],
            C=self.C[:, None], D=self.D, z=None if self.z is None else self.z[:, None],
            dt_bias=self.dt_bias, dt_softplus=self.dt_softplus, h0=self.h, h_offset=self.h_offset,
            y_offset=self.y_offset,
        )  # fmt: skip
