"""Sums of products of SISO states, from correlations of their inputs: no state is ever formed.

A channel's states are powers of their eigenvalues applied to one input, so all their products
follow from that input's autocorrelation (by FFT) and from the states after the last step. With
``S = Σ_t x_t x_tᴴ``, ``x_t = λ x_{t−1} + b u_t`` and ``x_e`` the state after the last step,

    ``S_ij (1 − λ_i λ_j*) = b_i b_j* r_0 + λ_i v_i b_j* + b_i (λ_j v_j)* − λ_i λ_j* Σ x_e,i x_e,j*``

where ``r_k = Σ_t u_t u_{t−k}`` and ``v = Σ_t x_{t−1} u_t = b Σ_k λ^k r_{k+1}``.

The imaginary part of a state whose eigenvalue is almost real is far smaller than the state, and
would drown in the rounding of these differences. The few such parts are formed, and correlated
with the input instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Complex128, Float, Float64, Int64
from torch import Tensor

from ssmith.calibrate.sums import StateSums, Sums, accumulate, mean_of
from ssmith.core.layers import Modes
from ssmith.core.layout import Layout, real_gram
from ssmith.core.moments import Moments
from ssmith.ops.diagonal import diagonal_scan

SLOWEST = 1e-7
"""Smallest 1 − |λ̄| for which dividing by ``1 − λ_i λ_j*`` leaves enough digits."""

FLAT = 1.0
"""A state is almost real where its turn per step is less than this share of 1 − |λ̄|."""

_POWERS = 2**23
"""Powers of eigenvalues that are held at once."""


def sums_for(modes: Modes) -> Sums:
    """Return what collects a layer's moments: correlations where they suffice, else states."""
    rho = modes.rho[modes.present]
    damped = not rho.numel() or float(rho.max()) < 1.0 - SLOWEST
    if modes.channel is not None and modes.count and damped:
        return CorrelationSums(modes=modes)
    return StateSums(modes=modes)


@dataclass(kw_only=True)
class CorrelationSums:
    """Sums of one SISO layer whose states are all damped."""

    modes: Modes
    layout: Layout = field(init=False)
    steps: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layout = Layout.of(self.modes)
        on = self.modes.present.to(torch.float64)
        self._A = self.layout.place(self.modes.A_bar * on)
        self._B = self.layout.place(self.modes.B_bar[:, 0] * on)
        turn, damping = self._A.imag.abs(), 1.0 - self._A.abs()
        self._flat = (turn < FLAT * damping) & (self._B != 0)

    def add(
        self,
        u: Float[Tensor, "b l m"],
        valid: Bool[Tensor, "b l"],
        lacking: Float[Tensor, "b l m"] | None,
        widths: Float[Tensor, "b l"] | None = None,
    ) -> None:
        # No SISO layer reads widths: its steps are even.
        del widths
        on = valid.cpu().unsqueeze(-1)
        rows = self._channels(u.double().cpu() * on)
        e = torch.zeros_like(rows)
        if lacking is not None:
            e = self._channels(lacking.double().cpu() * on)
        self.steps += int(valid.sum())
        length, wave = rows.shape[-1], _wave(rows)
        wave_e = torch.zeros_like(wave) if lacking is None else _wave(e)
        found = {
            "error_energy": (e * e).sum((1, 2)).unsqueeze(-1),
            "input_error": (rows * e).sum((1, 2)).unsqueeze(-1),
            "autocorrelation": _correlate(wave, wave, length),
            "front_error": _correlate(wave_e, wave, length),
        }
        ends = [self._last(rows.flip(-1), valid.cpu())]
        if self.layout.directions == 2:
            found["back_error"] = _correlate(wave, wave_e, length)
            ends.append(self._past(rows))
        for place, end in enumerate(ends):
            found[f"end_{place}"] = end.mT @ end.conj()
            found[f"end_plain_{place}"] = end.mT @ end
        for place, part in enumerate(self._flat_parts(rows, on)):
            wave_part = _wave(part)
            found[f"flat_front_{place}"] = _correlate(wave_part, wave, length)
            if self.layout.directions == 2:
                found[f"flat_back_{place}"] = _correlate(wave, wave_part, length)
        accumulate(self.sums, found)

    def _flat_parts(
        self, rows: Float64[Tensor, "g b l"], on: Bool[Tensor, "b l 1"]
    ) -> list[Float64[Tensor, "g b l"]]:
        """Return the imaginary parts of almost real states: by rank in the group, direction."""
        parts = []
        for index, there in self._ranks():
            A = self._A.gather(1, index).squeeze(1)
            Bu = rows.permute(1, 2, 0) * (self._B.gather(1, index).squeeze(1) * there)
            for reverse in (False, True)[: self.layout.directions]:
                states = diagonal_scan(A, Bu, reverse=reverse)[0]
                parts.append((states.imag * on).permute(2, 0, 1).contiguous())
        return parts

    def _ranks(self) -> list[tuple[Int64[Tensor, "g 1"], Bool[Tensor, "g"]]]:
        """Return the k-th almost real state of every group, and which groups have one, by k."""
        order = self._flat.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        counts = self._flat.sum(1)
        most = int(counts.max()) if counts.numel() else 0
        return [(order[:, k : k + 1], counts > k) for k in range(most)]

    def _channels(self, u: Float64[Tensor, "b l m"]) -> Float64[Tensor, "g b l"]:
        return u[..., self.layout.channel].permute(2, 0, 1).contiguous()

    def _last(
        self, reverse: Float64[Tensor, "g b l"], valid: Bool[Tensor, "b l"]
    ) -> Complex128[Tensor, "g b n"]:
        """Return the state after the last valid step of each sequence, given it backwards."""
        length = valid.shape[1]
        shift = length - valid.sum(1)
        index = (torch.arange(length) + shift.unsqueeze(1)).clamp(max=max(length - 1, 0))
        there = torch.arange(length) < valid.sum(1).unsqueeze(1)
        return self._past(reverse.gather(2, index.expand_as(reverse)) * there)

    def _past(self, rows: Float64[Tensor, "g b l"]) -> Complex128[Tensor, "g b n"]:
        """Return ``b Σ_k λ^k row_k``."""
        return self._polynomial(rows) * self._B.unsqueeze(1)

    def _polynomial(self, rows: Float64[Tensor, "g b l"]) -> Complex128[Tensor, "g b n"]:
        """Return ``Σ_k λ^k row_k``, some powers at a time."""
        A, (g, b, length) = self._A, rows.shape
        total = torch.zeros(g, b, A.shape[1], dtype=A.dtype)
        block = max(1, _POWERS // max(1, A.numel()))
        for start in range(0, length, block):
            part = rows[..., start : start + block]
            # Repeated multiplication, not exp(k·log λ): exact zeros stay zeros and λ may be 0.
            steps = A.unsqueeze(1).expand(-1, part.shape[-1], -1).clone()
            steps[:, 0] = 1.0 if start == 0 else A**start
            # cumprod of complex numbers keeps the digits of a tiny imaginary part.
            powers = torch.view_as_real(steps.cumprod(1)).flatten(2)
            sums = torch.bmm(part, powers).unflatten(-1, (A.shape[1], 2))
            total = total + torch.view_as_complex(sums)
        return total

    def result(self) -> Moments:
        if not self.steps:
            return mean_of(self.modes.layer, {}, 0)
        r = self.sums["autocorrelation"]
        energy = r[:, :1]
        v = self._past(torch.nn.functional.pad(r[:, 1:], (0, 1)).unsqueeze(1)).squeeze(1)
        direct = self._A * v + self._B * energy
        errors = [self.sums[name] for name in ("front_error", "back_error") if name in self.sums]
        products = [self._past(item.unsqueeze(1)).squeeze(1) for item in errors]
        fields = {
            "gram": self._gram(v, energy, r),
            "error": self._features(products),
            "error_energy": self.sums["error_energy"],
            "input": self._features([direct] * len(errors)),
            "input_energy": energy,
            "input_error": self.sums["input_error"],
        }
        return mean_of(self.modes.layer, fields, self.steps)

    def _features(self, directions: list[Tensor]) -> Float64[Tensor, "g f 1"]:
        parts = torch.view_as_real(torch.stack(directions, dim=-1))
        return parts.flatten(1).unsqueeze(-1)

    def _gram(self, v: Tensor, energy: Tensor, r: Tensor) -> Float64[Tensor, "g f f"]:
        blocks = []
        for kind in ("end", "end_plain"):
            own = [
                self._same(v, energy, self.sums[f"{kind}_{place}"], conjugate=kind == "end")
                for place in range(self.layout.directions)
            ]
            if len(own) == 1:
                blocks.append(own[0])
                continue
            across = self._across(r, conjugate=kind == "end")
            # Hermitian covariance: E[x_b x_fᴴ] = E[x_f x_bᴴ]ᴴ; the plain one is symmetric.
            other = across.mH if kind == "end" else across.mT
            rows = torch.stack(
                [torch.stack([own[0], across], -1), torch.stack([other, own[1]], -1)], -2
            )
            g, n = own[0].shape[:2]
            blocks.append(rows.permute(0, 1, 3, 2, 4).reshape(g, 2 * n, 2 * n))
        return self._with_flat(real_gram(*blocks))

    def _with_flat(self, gram: Float64[Tensor, "g f f"]) -> Float64[Tensor, "g f f"]:
        """Replace the products of almost real states' imaginary parts by their own sums."""
        directions = self.layout.directions
        for rank, (index, there) in enumerate(self._ranks()):
            for direction in range(directions):
                place = rank * directions + direction
                sums = [self.sums[f"flat_front_{place}"]]
                if directions == 2:
                    sums.append(self.sums[f"flat_back_{place}"])
                found = self._features([self._past(c.unsqueeze(1)).squeeze(1) for c in sums])
                row = (index.squeeze(1) * directions + direction) * 2 + 1
                group = there.nonzero().flatten()
                gram[group, row[group]] = found[group].squeeze(-1)
                gram[group, :, row[group]] = found[group].squeeze(-1)
        return gram

    def _same(
        self, v: Tensor, energy: Tensor, end: Tensor, *, conjugate: bool
    ) -> Complex128[Tensor, "g n n"]:
        """Return ``Σ x_i x_j*`` (or without the conjugate) of one direction of time."""
        A, B = self._A, self._B
        A_j, B_j, v_j = (item.conj() if conjugate else item for item in (A, B, v))
        right = (B * energy).unsqueeze(-1) * B_j.unsqueeze(-2)
        right = right + (A * v).unsqueeze(-1) * B_j.unsqueeze(-2)
        right = right + B.unsqueeze(-1) * (A_j * v_j).unsqueeze(-2)
        decay = A.unsqueeze(-1) * A_j.unsqueeze(-2)
        return (right - decay * end) / (1 - decay)

    def _across(self, r: Tensor, *, conjugate: bool) -> Complex128[Tensor, "g n n"]:
        """Return ``Σ_t x_front,i x_back,j*``: ``b_i b_j* Σ_d r_d Σ_{p+q=d} λ_i^p λ_j*^q``."""
        A, B = self._A, self._B
        A_j, B_j = (A.conj(), B.conj()) if conjugate else (A, B)
        shape = (*A.shape, A.shape[1])
        homogeneous = torch.zeros(shape, dtype=A.dtype)
        total, power = torch.zeros(shape, dtype=A.dtype), torch.ones_like(A)
        for lag in r.mT:
            homogeneous = A.unsqueeze(-1) * homogeneous + power.unsqueeze(-2)
            total = total + lag.view(-1, 1, 1) * homogeneous
            power = power * A_j
        return total * B.unsqueeze(-1) * B_j.unsqueeze(-2)


def _wave(rows: Float64[Tensor, "g b l"]) -> Complex128[Tensor, "g b w"]:
    """Return the Fourier transform over at least twice the length, so that nothing wraps."""
    # A power of two: lengths with large prime factors are several times slower.
    wave: Tensor = torch.fft.rfft(rows, n=2 ** math.ceil(math.log2(max(2 * rows.shape[-1], 2))))
    return wave


def _correlate(
    first: Complex128[Tensor, "g b w"], second: Complex128[Tensor, "g b w"], length: int
) -> Float64[Tensor, "g l"]:
    """Return ``Σ_b Σ_t first_t second_{t−k}`` for each lag k in [0, length), from `_wave`."""
    response: Tensor = torch.fft.irfft((first * second.conj()).sum(1))
    return response[..., :length]
