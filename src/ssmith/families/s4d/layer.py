"""The S4D layer: every channel has its own SISO diagonal system."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Complex, Float, Int64
from torch import Tensor, nn

from ssmith.core.compensation import Readout
from ssmith.families.lti import CLIP_RE, Discrete, Initialisation, LTILayer, LTIOptions
from ssmith.families.s4d.init import eigenvalues
from ssmith.ops.discretise import discretise, undiscretise

_AT_ONCE = 1 << 17
"""States that a step takes together."""


class S4DLayer(LTILayer):
    """One SISO diagonal system per channel, B fixed to ones and merged into C.

    Parameters carry the names of the source: ``log_A_real``, ``A_imag`` (m, n), ``C`` (m, n, 2), or
    (2, m, n, 2) if bidirectional, ``D`` and ``log_dt`` (m,). Once channels hold unequal numbers of
    states, the state axes are flat, (s,), and ``channel`` (s,) says whose state each one is: a
    removed state is absent, there is no padding.

    ``states`` is one number for all channels, or one for each (any may be 0).

    Source: S4D (arXiv 2206.11893) and its released ``s4d.py``.
    Differs: the backward branch of a bidirectional layer also counts lag 0, as S5's does.
    """

    family = "s4d"
    trainable_ssm = ("log_A_real", "A_imag", "log_dt")
    channel: Tensor

    def __init__(
        self,
        width: int,
        states: int | Sequence[int],
        *,
        initialisation: Initialisation = "lin",
        options: LTIOptions | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(width, options or LTIOptions())
        counts = [states] * width if isinstance(states, int) else list(states)
        ragged = len(set(counts)) > 1
        owner = torch.arange(width).repeat_interleave(torch.tensor(counts))
        # Derived from the counts in the configuration, so it is not stored twice.
        self.register_buffer("channel", owner, persistent=False)
        self._ragged = ragged
        seed = generator or torch.Generator().manual_seed(torch.initial_seed() % 2**63)
        values = _initial(counts, initialisation, self.options, seed)
        lead = (2,) if self.options.bidirectional else ()
        shape = (len(owner),) if ragged else (width, counts[0])
        values["log_A_real"] = values["log_A_real"].view(shape)
        values["A_imag"] = values["A_imag"].view(shape)
        values["C"] = values["C"].view(*lead, *shape, 2)
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value.to(torch.get_default_dtype())))

    def grid(self) -> tuple[int, ...]:
        return tuple(self.get_parameter("A_imag").shape)

    def counts(self) -> list[int]:
        return torch.bincount(self.channel.cpu(), minlength=self.width).tolist()

    def _continuous(self) -> tuple[Tensor, Tensor]:
        """Return eigenvalues and step sizes, both flat (s,)."""
        real = -self.get_parameter("log_A_real").exp()
        if self.options.clip_eigs:
            real = real.clamp(max=CLIP_RE)
        A = torch.complex(real, self.get_parameter("A_imag")).reshape(-1)
        dt = self.options.step_rescale * self.get_parameter("log_dt").exp()
        return A, dt[self.channel]

    def _readouts(self) -> tuple[Tensor, Tensor | None]:
        """Return C and C_back, flat complex (s,), without the conjugate factor."""
        C = torch.view_as_complex(self.get_parameter("C"))
        if self.options.bidirectional:
            return C[0].reshape(-1), C[1].reshape(-1)
        return C.reshape(-1), None

    def _modal(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        A, dt = self._continuous()
        return *discretise(A, dt, self.options.discretisation), *self._readouts()

    def discretise(self) -> Discrete:
        A_bar, B_bar, C, C_back = self._modal()
        factor = self._readout_factor()
        if self.state_mask is not None:
            # A_bar stays: with B_bar and C off the state is unreachable and unread, and the
            # convolution kernel needs log(A_bar).
            on = self.state_mask.to(A_bar.real.dtype)
            B_bar, C = B_bar * on, C * on
            C_back = None if C_back is None else C_back * on
        return Discrete(
            A_bar=A_bar,
            B_bar=B_bar,
            C=factor * C,
            C_back=None if C_back is None else factor * C_back,
        )

    def forward(
        self,
        u: Float[Tensor, "b l m"],
        lengths: Int64[Tensor, "b"] | None = None,
        widths: Float[Tensor, "b l"] | None = None,
    ) -> Float[Tensor, "b l m"]:
        if widths is not None:
            return self.varied(u, widths)[0]
        # Without a state to hand on, the kernel alone is needed.
        run = self.discretise()
        return self._convolved(u, run, _powers(run.A_bar, u.shape[1]))

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
        b, length, _ = u.shape
        # powers[s, t] = A_bar_s^t for t = 0 … l
        powers = _powers(run.A_bar, length + 1)
        y = self._convolved(u, run, powers[:, :length])
        if state is not None:
            y = y + self._free_response(run.C * state, powers[:, 1:])
        steps = torch.full((b,), length, device=u.device) if lengths is None else lengths
        last = run.B_bar * self._weighted_past(u, powers[:, :length], steps)
        if state is not None:
            last = last + powers[:, steps].mT * state
        return y, last

    def step(
        self,
        u: Float[Tensor, "b m"],
        state: Complex[Tensor, "b s"],
        discrete: Discrete | None = None,
        out: Complex[Tensor, "b s"] | None = None,
    ) -> tuple[Float[Tensor, "b m"], Complex[Tensor, "b s"]]:
        self._refuse_bidirectional("step mode")
        run = discrete or self.discretise()
        if out is None and not torch.is_grad_enabled():
            out = torch.empty_like(state)
        if out is None or u.device.type != "cpu":
            return self._stepped(u, state, run, out)
        # A state of every channel is large: what fits into the cache is read from memory once.
        rows = max(1, _AT_ONCE // max(1, state.shape[1]))
        pieces = zip(u.split(rows), state.split(rows), out.split(rows), strict=True)
        return torch.cat([self._stepped(a, b, run, c)[0] for a, b, c in pieces]), out

    def _stepped(
        self,
        u: Float[Tensor, "b m"],
        state: Complex[Tensor, "b s"],
        run: Discrete,
        out: Complex[Tensor, "b s"] | None,
    ) -> tuple[Float[Tensor, "b m"], Complex[Tensor, "b s"]]:
        new: Tensor = torch.mul(run.A_bar, state, out=out)
        new.add_(run.B_bar * u.index_select(1, self.channel))
        terms = (run.C * new).real
        return self._sum_states(terms) + self.get_parameter("D") * u, new

    @torch.no_grad()
    def write_(self, values: Readout) -> None:
        B_bar = self.modes("").B_bar if values.B_bar is None else values.B_bar
        if values.A_bar is not None:
            dt = self._continuous()[1].double().cpu()
            A = undiscretise(values.A_bar, dt, self.options.discretisation)
            for name, value in (("log_A_real", (-A.real).log()), ("A_imag", A.imag)):
                old = self.get_parameter(name)
                old.copy_(value.reshape(old.shape))
        # B is one here: what its rows should be goes into C.
        gain = self.modes("").B_bar
        columns = [(C * B_bar / gain)[:, 0] for C in (values.C, values.C_back) if C is not None]
        C, D = self.get_parameter("C"), self.get_parameter("D")
        C.copy_(torch.view_as_real(torch.stack(columns)).reshape(C.shape))
        D.add_(values.D_change.to(D))

    @torch.no_grad()
    def drop_states_(self, keep: Bool[Tensor, "s"]) -> None:
        """Remove states for good; channels may keep unequal numbers of them."""
        flat = keep.to(self.channel.device)
        owner = self.channel[flat]
        counts = torch.bincount(owner.cpu(), minlength=self.width)
        equal = bool((counts == counts[0]).all())
        lead = (2,) if self.options.bidirectional else ()
        shape = (self.width, int(counts[0])) if equal else (len(owner),)
        for name in ("log_A_real", "A_imag", "C"):
            old = self.get_parameter(name)
            head, tail = (lead, (2,)) if name == "C" else ((), ())
            rows = old.detach().reshape(*head, len(flat), *tail)
            cut = rows[..., flat, :] if name == "C" else rows[flat]
            cut = cut.reshape(*head, *shape, *tail).contiguous()
            self.register_parameter(name, nn.Parameter(cut, requires_grad=old.requires_grad))
        self.channel = owner
        self._ragged = not equal
        if self.state_mask is not None:
            rest = self.state_mask[flat]
            self.state_mask = None if bool(rest.all()) else rest

    def _convolved(
        self, u: Float[Tensor, "b l m"], run: Discrete, powers: Complex[Tensor, "s l"]
    ) -> Float[Tensor, "b l m"]:
        """Return the response to ``u`` alone, from a zero state."""
        if u.shape[1] == 0:
            return u
        y = _convolve(u.mT, self._kernel(run.C * run.B_bar, powers))
        if run.C_back is not None:
            backward = self._kernel(run.C_back * run.B_bar, powers)
            y = y + _convolve(u.mT.flip(-1), backward).flip(-1)
        return y.mT + self.get_parameter("D") * u

    def _sum_states(self, terms: Float[Tensor, "b s"]) -> Float[Tensor, "b m"]:
        """Add up each channel's states."""
        if not self._ragged:
            return terms.view(terms.shape[0], self.width, -1).sum(-1)
        return terms.new_zeros(terms.shape[0], self.width).index_add(1, self.channel, terms)

    def _kernel(
        self, weight: Complex[Tensor, "s"], powers: Complex[Tensor, "s l"]
    ) -> Float[Tensor, "m l"]:
        """Return ``Re Σ_n weight_n powers_n`` for each channel."""
        if not self._ragged:
            rows = powers.view(self.width, -1, powers.shape[1])
            return torch.bmm(weight.view(self.width, 1, -1), rows).squeeze(1).real
        terms = (weight.unsqueeze(-1) * powers).real
        return terms.new_zeros(self.width, powers.shape[1]).index_add(0, self.channel, terms)

    def _by_channel(self, rows: Complex[Tensor, "s *r"]) -> Complex[Tensor, "m n *r"]:
        """Lay flat states out per channel, channels with fewer states filled up with zeros."""
        counts = torch.bincount(self.channel, minlength=self.width)
        start = counts.cumsum(0) - counts
        slot = torch.arange(len(self.channel), device=rows.device) - start[self.channel]
        most = int(counts.max()) if self.width else 0
        table = rows.new_zeros(self.width, most, *rows.shape[1:])
        return table.index_put((self.channel, slot), rows)

    def _free_response(
        self, weight: Complex[Tensor, "b s"], powers: Complex[Tensor, "s l"]
    ) -> Float[Tensor, "b l m"]:
        """Return what a start state adds to the output at every step."""
        left, right = self._by_channel(weight.mT), self._by_channel(powers)
        return torch.bmm(left.permute(0, 2, 1), right).real.permute(1, 2, 0)

    def _weighted_past(
        self,
        u: Float[Tensor, "b l m"],
        powers: Complex[Tensor, "s l"],
        lengths: Int64[Tensor, "b"],
    ) -> Complex[Tensor, "b s"]:
        """Return ``Σ_k A_bar^{len−1−k} u_k`` over the valid steps of each sequence."""
        # Read each sequence backwards from its end: v_j = u_{len−1−j}, zero where there is none.
        index = lengths.view(-1, 1) - 1 - torch.arange(u.shape[1], device=u.device)
        past = u.gather(1, index.clamp(min=0).unsqueeze(-1).expand_as(u))
        past = past * (index >= 0).unsqueeze(-1)
        table = self._by_channel(powers)
        sums = torch.bmm(past.permute(2, 0, 1).to(table.dtype), table.mT)
        counts = torch.bincount(self.channel, minlength=self.width)
        present = torch.arange(table.shape[1], device=u.device) < counts.unsqueeze(-1)
        return sums.permute(1, 0, 2)[:, present]


def _powers(A_bar: Complex[Tensor, "s"], count: int) -> Complex[Tensor, "s l"]:
    """Return ``A_bar^t`` for ``t`` in [0, count), with ``0^0 = 1``."""
    exponents = torch.arange(count, device=A_bar.device, dtype=A_bar.real.dtype)
    # A strongly damped mode rounds to 0, which has no logarithm.
    gone = (A_bar == 0).unsqueeze(-1)
    log = torch.log(torch.where(gone.squeeze(-1), torch.ones_like(A_bar), A_bar))
    powers = torch.exp(log.unsqueeze(-1) * exponents)
    return torch.where(gone, (exponents == 0).to(powers.dtype), powers)


def _convolve(u: Float[Tensor, "b m l"], kernel: Float[Tensor, "m l"]) -> Float[Tensor, "b m l"]:
    """Return the causal convolution, by FFT over twice the length."""
    length = u.shape[-1]
    size = 2 * length
    product = torch.fft.rfft(u, n=size) * torch.fft.rfft(kernel, n=size)
    response: Tensor = torch.fft.irfft(product, n=size)
    return response[..., :length]


def _initial(
    counts: Sequence[int],
    initialisation: Initialisation,
    options: LTIOptions,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Draw initial values, state axes flat."""
    width = len(counts)
    # A cut layer may hold an odd number without symmetry: one conjugate is gone.
    tables = {
        count: eigenvalues(
            initialisation, count if options.conj_sym else count + count % 2, options.conj_sym
        )[:count]
        for count in set(counts)
    }
    A = torch.cat([tables[count] for count in counts])
    low, high = torch.tensor([options.dt_min, options.dt_max], dtype=torch.float64).log()
    draw = torch.rand(width, generator=generator, dtype=torch.float64)
    branches = 2 if options.bidirectional else 1
    C = torch.randn(branches, len(A), 2, generator=generator, dtype=torch.float64)
    return {
        "log_A_real": (-A.real).log(),
        "A_imag": A.imag.clone(),
        # Complex standard normal: variance ½ in each part.
        "C": C * 0.5**0.5,
        "D": torch.randn(width, generator=generator, dtype=torch.float64),
        "log_dt": low + draw * (high - low),
    }
