"""The S5 layer: ``x_t = A_bar x_{t−1} + B_bar u_t``, ``y_t = 2·Re(C x_t) + D ⊙ u_t``."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from jaxtyping import Complex, Float, Int64
from torch import Tensor, nn

from ssmith.core.compensation import Readout
from ssmith.core.layers import Modes
from ssmith.families.lti import CLIP_RE, Discrete, LTILayer, LTIOptions, last_valid
from ssmith.families.s5.init import block_diagonal_hippo, log_steps
from ssmith.ops.diagonal import diagonal_scan, varied_scan
from ssmith.ops.discretise import discretise, undiscretise


class S5Layer(LTILayer):
    """One MIMO diagonal state space with ``states`` stored complex states.

    Parameters carry the names of the source: ``Lambda_re``, ``Lambda_im`` (s,), ``B`` (s, m, 2),
    ``C`` (m, s, 2) or ``C1`` and ``C2`` if bidirectional, ``D`` (m,), ``log_step`` (s, 1).

    With conjugate symmetry each state stands for a pair; there may be none. ``blocks``, of the
    HiPPO initialisation, divide them.

    Source: S5 (arXiv 2208.04933) and its released JAX code.
    Differs: the time axis is scanned in √l chunks; numbers agree to rounding.
    """

    family = "s5"
    trainable_ssm = ("Lambda_re", "Lambda_im", "B", "log_step")

    def __init__(
        self,
        width: int,
        states: int,
        *,
        blocks: int = 1,
        options: LTIOptions | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(width, options or LTIOptions())
        seed = generator or torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        values = _initial(width, states, blocks, self.options, seed)
        for name, initial in values.items():
            self.register_parameter(name, nn.Parameter(initial.to(torch.get_default_dtype())))

    def grid(self) -> tuple[int, ...]:
        return (self.get_parameter("Lambda_re").shape[0],)

    def _continuous(self) -> tuple[Tensor, Tensor]:
        """Return eigenvalues and step sizes, both (s,)."""
        real: Tensor = self.get_parameter("Lambda_re")
        if self.options.clip_eigs:
            real = real.clamp(max=CLIP_RE)
        Lambda = torch.complex(real, self.get_parameter("Lambda_im"))
        dt = self.options.step_rescale * self.get_parameter("log_step").squeeze(-1).exp()
        return Lambda, dt

    def _readouts(self) -> tuple[Tensor, Tensor | None]:
        """Return C and C_back as complex (m, s), without the conjugate factor."""
        if self.options.bidirectional:
            front, back = self.get_parameter("C1"), self.get_parameter("C2")
            return torch.view_as_complex(front), torch.view_as_complex(back)
        return torch.view_as_complex(self.get_parameter("C")), None

    def _modal(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        Lambda, dt = self._continuous()
        A_bar, gain = discretise(Lambda, dt, self.options.discretisation)
        B_bar = gain.unsqueeze(-1) * torch.view_as_complex(self.get_parameter("B"))
        return A_bar, B_bar, *self._readouts()

    def live_modes(self, name: str) -> Modes:
        Lambda, dt = self._continuous()
        drift = (Lambda * dt).to(torch.complex128)
        kind = self.options.discretisation
        return replace(super().live_modes(name), drift=drift, discretisation=kind)

    def discretise(self) -> Discrete:
        A_bar, B_bar, C, C_back = self._modal()
        if self.state_mask is not None:
            on = self.state_mask.to(A_bar.real.dtype)
            A_bar, B_bar, C = A_bar * on, B_bar * on.unsqueeze(-1), C * on
            C_back = None if C_back is None else C_back * on
        factor = self._readout_factor()
        return Discrete(
            A_bar=A_bar,
            B_bar=_input_weight(B_bar),
            C=_output_weight(factor * C),
            C_back=None if C_back is None else _output_weight(factor * C_back),
        )

    def scan(
        self,
        u: Float[Tensor, "b l m"],
        state: Complex[Tensor, "b s"] | None = None,
        lengths: Int64[Tensor, "b"] | None = None,
        discrete: Discrete | None = None,
    ) -> tuple[Float[Tensor, "b l m"], Complex[Tensor, "b s"]]:
        if state is not None:
            self._refuse_bidirectional("a carried state")
        run = discrete or self.discretise()
        Bu = _input_map(u, run.B_bar)
        states, last = diagonal_scan(run.A_bar, Bu, state, overwrite=run.C_back is None)
        y = torch.addcmul(_read_out(states, run.C), self.get_parameter("D"), u)
        if run.C_back is not None:
            backward, _ = diagonal_scan(run.A_bar, Bu, reverse=True)
            y = y + _read_out(backward, run.C_back)
        if lengths is not None:
            last = last_valid(states, lengths, state)
        return y, last

    def varied(
        self,
        u: Float[Tensor, "b l m"],
        widths: Float[Tensor, "b l"],
        state: Complex[Tensor, "b s"] | None = None,
        lengths: Int64[Tensor, "b"] | None = None,
    ) -> tuple[Float[Tensor, "b l m"], Complex[Tensor, "b s"]]:
        self._refuse_bidirectional("steps of other widths")
        Lambda, dt = self._continuous()
        A_bar, gain = discretise(Lambda, dt * widths[..., None], self.options.discretisation)
        B, C = torch.view_as_complex(self.get_parameter("B")), self._readouts()[0]
        if self.state_mask is not None:
            on = self.state_mask.to(A_bar.real.dtype)
            A_bar, gain, C = A_bar * on, gain * on, C * on
        Bu = gain * _input_map(u, _input_weight(B))
        states = varied_scan(A_bar, Bu, state)
        read = _read_out(states, _output_weight(self._readout_factor() * C))
        y = torch.addcmul(read, self.get_parameter("D"), u)
        steps = widths.new_full((len(u),), u.shape[1], dtype=torch.int64)
        return y, last_valid(states, steps if lengths is None else lengths, state)

    def step(
        self,
        u: Float[Tensor, "b m"],
        state: Complex[Tensor, "b s"],
        discrete: Discrete | None = None,
        out: Complex[Tensor, "b s"] | None = None,
    ) -> tuple[Float[Tensor, "b m"], Complex[Tensor, "b s"]]:
        self._refuse_bidirectional("step mode")
        run = discrete or self.discretise()
        new: Tensor = torch.addcmul(_input_map(u, run.B_bar), state, run.A_bar, out=out)
        return torch.addcmul(_read_out(new, run.C), u, self.get_parameter("D")), new

    @torch.no_grad()
    def write_(self, values: Readout) -> None:
        names = ("C1", "C2") if self.options.bidirectional else ("C",)
        for name, C in zip(names, (values.C, values.C_back), strict=False):
            if C is not None:
                self.get_parameter(name).copy_(torch.view_as_real(C.mT.contiguous()))
        D = self.get_parameter("D")
        D.add_(values.D_change.to(D))
        # With new eigenvalues the input's gain changes, so B is written anew as well.
        B_bar = values.B_bar
        if values.A_bar is not None:
            B_bar = self.modes("").B_bar if B_bar is None else B_bar
            dt = self._continuous()[1].double().cpu()
            Lambda = undiscretise(values.A_bar, dt, self.options.discretisation)
            self.get_parameter("Lambda_re").copy_(Lambda.real)
            self.get_parameter("Lambda_im").copy_(Lambda.imag)
        if B_bar is not None:
            Lambda, dt = (item.cpu() for item in copy.deepcopy(self).double()._continuous())
            gain = discretise(Lambda, dt, self.options.discretisation)[1]
            B = B_bar / gain.unsqueeze(-1)
            self.get_parameter("B").copy_(torch.view_as_real(B))


def _input_weight(B_bar: Complex[Tensor, "s m"]) -> Float[Tensor, "t m"]:
    """Lay real and imaginary rows side by side: one real product gives all of ``B_bar u``."""
    # Not by view_as_real: a layer without states has nothing to view a gradient of.
    return torch.stack((B_bar.real, B_bar.imag), dim=1).flatten(0, 1)


def _output_weight(C: Complex[Tensor, "m s"]) -> Float[Tensor, "m t"]:
    """Lay columns out so that one real product with x's parts gives ``Re(C x)``."""
    return torch.stack([C.real, -C.imag], dim=-1).reshape(C.shape[0], 2 * C.shape[1])


def _input_map(u: Float[Tensor, "*b m"], weight: Float[Tensor, "t m"]) -> Complex[Tensor, "*b s"]:
    """Return ``B_bar u``."""
    product = nn.functional.linear(u, weight)
    return torch.view_as_complex(product.view(*u.shape[:-1], weight.shape[0] // 2, 2))


def _read_out(x: Complex[Tensor, "*b s"], weight: Float[Tensor, "m t"]) -> Float[Tensor, "*b m"]:
    """Return ``Re(C x)``."""
    return nn.functional.linear(torch.view_as_real(x).flatten(-2), weight)


def _initial(
    width: int, states: int, blocks: int, options: LTIOptions, generator: torch.Generator
) -> dict[str, Tensor]:
    """Draw initial values: HiPPO blocks, B and C random and turned into the eigenbasis."""
    if states == 0:
        Lambda, V = (
            torch.zeros(0, dtype=torch.complex128),
            torch.zeros(0, 0, dtype=torch.complex128),
        )
    else:
        Lambda, V = block_diagonal_hippo(states, blocks, options.conj_sym)
    full = V.shape[0]

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    B = V.mH @ (normal(full, width) / max(full, 1) ** 0.5).to(torch.complex128)
    values: dict[str, Tensor] = {
        "Lambda_re": Lambda.real,
        "Lambda_im": Lambda.imag,
        "B": torch.view_as_real(B.resolve_conj()),
        "D": normal(width),
        "log_step": log_steps(states, options.dt_min, options.dt_max, generator),
    }
    for name in ("C1", "C2") if options.bidirectional else ("C",):
        C = (normal(width, full) / max(full, 1) ** 0.5).to(torch.complex128) @ V
        values[name] = torch.view_as_real(C.resolve_conj())
    return {name: value.clone().contiguous() for name, value in values.items()}
