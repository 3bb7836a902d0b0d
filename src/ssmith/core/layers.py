"""What a model is made of, as every criterion and every table sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Complex128, Float64, Int64
from torch import Tensor

STATE = "state"
"""One state of a layer: a complex mode (a conjugate pair counts as one), or a column of A_log."""


@dataclass(frozen=True, kw_only=True)
class LayerInfo:
    """One state space layer of a model.

    Args:
        name: dotted path of the module inside the model.
        family: name of the family that owns it, e.g. ``"s5"``.
        units: how many of each unit it has now, e.g. ``{"states": 64}``.
        grid: per unit, the shape its scores and masks have, e.g. ``{"states": (64,)}``.
        width: channels in and out of the state space part.
        parameters: number of real parameters of the state space part.
        masked: per unit, how many are switched off by a mask but still stored.
        notes: facts a user should see before cutting.
    """

    name: str
    family: str
    units: dict[str, int]
    grid: dict[str, tuple[int, ...]]
    width: int
    parameters: int
    masked: dict[str, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Modes:
    """A diagonal LTI layer as a sum of first-order modes, discretised, in float64.

    Mode ``i`` maps the input of its channel(s) through ``x_t = A_bar_i x_{t-1} + B_bar_i u_t``
    and adds ``C_i x_t`` to the output. With ``conjugate`` each stored mode stands for itself and
    its complex conjugate, and the layer's output is ``2·Re(C x)``; without it, ``Re(C x)``.

    Args:
        layer: dotted name of the layer.
        A_bar: discrete eigenvalues λ̄.
        B_bar: discretised input rows. MIMO: one row over all input channels.
            SISO: one entry per mode (``i = 1``), acting on the mode's own channel.
        C: output rows of each mode (the columns of the paper's C, transposed).
        C_back: read-out of the time-reversed branch of a bidirectional layer, which shares
            ``A_bar`` and ``B_bar`` (S5). None for a unidirectional layer.
        channel: SISO layers: the channel each mode belongs to. None for MIMO layers.
        conjugate: whether each stored mode stands for a conjugate pair.
        grid: shape in which users see the states, ``(n,)`` or ``(m, n)``; its product is ``s``.
            A layer whose channels hold unequal numbers of states has the flat grid ``(s,)``.
        present: False where a mask has already switched the mode off.
        drift: ΛΔ, which the width of a step multiplies where steps are uneven; None for what
            ``A_bar`` says of it, the slowest turn of all that it may be.
        discretisation: how ``drift`` became ``A_bar``.
    """

    layer: str
    A_bar: Complex128[Tensor, "s"]
    B_bar: Complex128[Tensor, "s i"]
    C: Complex128[Tensor, "s o"]
    C_back: Complex128[Tensor, "s o"] | None
    channel: Int64[Tensor, "s"] | None
    conjugate: bool
    grid: tuple[int, ...]
    present: Bool[Tensor, "s"]
    drift: Complex128[Tensor, "s"] | None = None
    discretisation: Literal["zoh", "bilinear"] = "zoh"

    @property
    def count(self) -> int:
        """Number of modes."""
        return self.A_bar.shape[0]

    @property
    def rho(self) -> Float64[Tensor, "s"]:
        """Spectral radius |λ̄| of each mode."""
        return self.A_bar.abs()

    def is_unstable(self) -> Bool[Tensor, "s"]:
        """True where |λ̄| ≥ 1: the mode's norms are infinite and cannot be ranked."""
        return self.rho >= 1.0

    def only(self, keep: Bool[Tensor, "s"]) -> Modes:
        """Return some of the modes, as a layer of their own."""
        return replace(
            self,
            A_bar=self.A_bar[keep],
            B_bar=self.B_bar[keep],
            C=self.C[keep],
            C_back=None if self.C_back is None else self.C_back[keep],
            channel=None if self.channel is None else self.channel[keep],
            grid=(int(keep.sum()),),
            present=self.present[keep],
            drift=None if self.drift is None else self.drift[keep],
        )


def count_kept(keep: dict[str, Bool[Tensor, "..."]]) -> int:
    """Return how many units a set of keep-masks keeps."""
    return int(sum(int(torch.count_nonzero(mask)) for mask in keep.values()))
