"""What S5 and S4D layers share: the contract of a diagonal LTI layer that can be cut."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Complex, Float, Int64, Shaped
from torch import Tensor, nn

from ssmith.core.checks import check_choice, check_flag, check_number
from ssmith.core.compensation import Readout
from ssmith.core.errors import UnsupportedError
from ssmith.core.layers import STATE, LayerInfo, Modes
from ssmith.ops.discretise import Discretisation

CLIP_RE = -1e-4
"""Largest real part an eigenvalue may have when clipping is on (S5's ``clip_eigs``)."""

Initialisation = Literal["hippo", "legs", "lin", "inv"]


@dataclass(frozen=True, kw_only=True)
class LTIOptions:
    """Settings every diagonal LTI layer has.

    Args:
        discretisation: ``"zoh"`` or ``"bilinear"``.
        conj_sym: store one of each conjugate pair; the output is then ``2·Re(C x)``.
        bidirectional: add a branch that runs backwards in time and shares A and B.
        step_rescale: factor on all step sizes, for input sampled at another rate.
        clip_eigs: keep the real part of every eigenvalue at or below −1e-4.
        dt_min: smallest initial step size, > 0.
        dt_max: largest initial step size, ≥ ``dt_min``.
    """

    discretisation: Discretisation = "zoh"
    conj_sym: bool = True
    bidirectional: bool = False
    step_rescale: float = 1.0
    clip_eigs: bool = False
    dt_min: float = 1e-3
    dt_max: float = 1e-1

    def __post_init__(self) -> None:
        check_choice("discretisation", self.discretisation, ("zoh", "bilinear"))
        for name in ("conj_sym", "bidirectional", "clip_eigs"):
            check_flag(name, getattr(self, name))
        check_number("step_rescale", self.step_rescale, above=0)
        check_number("dt_min", self.dt_min, above=0)
        check_number("dt_max", self.dt_max, at_least=self.dt_min)


@dataclass(frozen=True, kw_only=True)
class Discrete:
    """A layer's parameters after discretisation, ready to be run.

    In S5 ``B_bar`` is real (2s, m), real and imaginary rows in turn, and C real (m, 2s); in S4D
    both are complex (s,). C has the conjugate factor 2 included.
    """

    A_bar: Tensor
    B_bar: Tensor
    C: Tensor
    C_back: Tensor | None


class LTILayer(nn.Module, ABC):
    """A diagonal linear time-invariant state space layer on ``m`` channels."""

    family: str
    trainable_ssm: tuple[str, ...]
    state_mask: Tensor | None

    def __init__(self, width: int, options: LTIOptions) -> None:
        super().__init__()
        self.width = width
        self.options = options
        # None until the layer is masked, so that an unmasked layer's file has no mask in it.
        self.register_buffer("state_mask", None)

    @abstractmethod
    def grid(self) -> tuple[int, ...]:
        """Return the shape in which the states are scored and masked."""

    @abstractmethod
    def discretise(self) -> Discrete:
        """Return the discrete parameters, with masked states switched off."""

    @abstractmethod
    def scan(
        self,
        u: Float[Tensor, "b l m"],
        state: Complex[Tensor, "b s"] | None = None,
        lengths: Int64[Tensor, "b"] | None = None,
        discrete: Discrete | None = None,
    ) -> tuple[Float[Tensor, "b l m"], Complex[Tensor, "b s"]]:
        """Run over a whole sequence.

        ``u`` is zero in padded steps; the returned state is the one after the last valid step.
        ``discrete`` comes from `discretise`, to spare doing it again. Bidirectional layers take no
        state.
        """

    def varied(
        self,
        u: Float[Tensor, "b l m"],
        widths: Float[Tensor, "b l"],
        state: Complex[Tensor, "b s"] | None = None,
        lengths: Int64[Tensor, "b"] | None = None,
    ) -> tuple[Float[Tensor, "b l m"], Complex[Tensor, "b s"]]:
        """Run as `scan` does over steps of other widths: Δ of each is multiplied by its own."""
        raise UnsupportedError(
            f"steps of other widths in {self.family}", allowed="s5 that runs forwards"
        )

    @abstractmethod
    def step(
        self,
        u: Float[Tensor, "b m"],
        state: Complex[Tensor, "b s"],
        discrete: Discrete | None = None,
        out: Complex[Tensor, "b s"] | None = None,
    ) -> tuple[Float[Tensor, "b m"], Complex[Tensor, "b s"]]:
        """Run one time step; equals `scan` step by step. Bidirectional layers need the future.

        ``out``, which is not ``state``, becomes the new state; without gradients.
        """

    @abstractmethod
    def _modal(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return A_bar, B_bar, C and C_back of all states, masked ones too, as the layer has them.

        B_bar is (s, m) and C (m, s) in a MIMO layer; all are (s,) in a SISO one.
        """

    def modes(self, name: str) -> Modes:
        """Return the layer as modes in float64 on the CPU (see `Modes`)."""
        still = copy.deepcopy(self).double().cpu().requires_grad_(requires_grad=False)
        return still.live_modes(name)

    def live_modes(self, name: str) -> Modes:
        """Return the layer as modes where it is, of which gradients can be taken."""
        A_bar, B_bar, C, C_back = self._modal()
        siso = B_bar.ndim == 1

        def rows(read: Tensor) -> Tensor:
            return (read.unsqueeze(-1) if siso else read.mT).to(torch.complex128)

        return Modes(
            layer=name,
            A_bar=A_bar.to(torch.complex128),
            B_bar=(B_bar.unsqueeze(-1) if siso else B_bar).to(torch.complex128),
            C=rows(C),
            C_back=None if C_back is None else rows(C_back),
            channel=self.get_buffer("channel").clone() if siso else None,
            conjugate=self.options.conj_sym,
            grid=self.grid(),
            present=self.present(),
        )

    @abstractmethod
    def write_(self, values: Readout) -> None:
        """Replace C (and C_back) and add to D; replace A and B where there are values for them."""

    def forward(
        self,
        u: Float[Tensor, "b l m"],
        lengths: Int64[Tensor, "b"] | None = None,
        widths: Float[Tensor, "b l"] | None = None,
    ) -> Float[Tensor, "b l m"]:
        """Return the output of `scan`, or of `varied` where there are widths, from a zero state."""
        if widths is not None:
            return self.varied(u, widths, lengths=lengths)[0]
        return self.scan(u, lengths=lengths)[0]

    @property
    def n_states(self) -> int:
        """Number of stored states ``s``."""
        return math.prod(self.grid())

    def counts(self) -> list[int]:
        """Return the number of stored states of each part that may hold its own number of them."""
        return [self.n_states]

    def mask_(self, keep: Bool[Tensor, "..."]) -> None:
        """Switch off the states that ``keep`` marks False; states already off stay off."""
        flat = keep.reshape(-1)
        self.state_mask = flat.clone() if self.state_mask is None else self.state_mask & flat

    def present(self) -> Bool[Tensor, "s"]:
        """Return which states no mask has switched off, on the CPU."""
        if self.state_mask is None:
            return torch.ones(self.n_states, dtype=torch.bool)
        return self.state_mask.cpu().clone()

    def initial_state(self, batch_size: int) -> Complex[Tensor, "b s"]:
        """Return a zero state."""
        parameter = next(self.parameters())
        dtype = torch.complex128 if parameter.dtype == torch.float64 else torch.complex64
        return torch.zeros(batch_size, self.n_states, dtype=dtype, device=parameter.device)

    def info(self, name: str) -> LayerInfo:
        """Return what `inspect` shows."""
        masked = 0 if self.state_mask is None else int((~self.state_mask).sum())
        notes = []
        if self.options.bidirectional:
            notes.append("bidirectional: no step mode")
        return LayerInfo(
            name=name,
            family=self.family,
            units={STATE: self.n_states},
            grid={STATE: self.grid()},
            width=self.width,
            parameters=sum(parameter.numel() for parameter in self.parameters()),
            masked={STATE: masked},
            notes=tuple(notes),
        )

    def _refuse_bidirectional(self, what: str) -> None:
        if self.options.bidirectional:
            raise UnsupportedError(
                f"{what} is not defined for a bidirectional layer, which needs the future",
                allowed="unidirectional layers",
                next_step="run whole sequences, or train with bidirectional=False",
            )

    def _readout_factor(self) -> float:
        return 2.0 if self.options.conj_sym else 1.0


def last_valid(
    steps: Shaped[Tensor, "b l s"],
    lengths: Int64[Tensor, "b"],
    start: Shaped[Tensor, "b s"] | None = None,
) -> Shaped[Tensor, "b s"]:
    """Return what stands at the last valid step of each sequence (``start`` if it has none)."""
    before = steps.new_zeros(steps.shape[0], steps.shape[2]) if start is None else start
    if steps.shape[1] == 0:
        return before
    index = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, steps.shape[2])
    return torch.where((lengths > 0).unsqueeze(1), steps.gather(1, index).squeeze(1), before)
