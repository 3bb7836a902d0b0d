"""H∞ norms of real modes: suprema over frequency, found numerically."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex128, Float64, Int64
from torch import Tensor

from ssmith.ops.norms import plain_product, square, square_norm, stable_radius

GRID_POINTS = 193
"""Frequencies at which a supremum is first looked for; odd, so that ω = arg λ̄ is one of them."""

PEAKS = 3
"""Local maxima of the grid that are refined."""

GOLDEN_STEPS = 42
"""Golden-section steps; the bracket shrinks to 1e-9 of a grid step, the value is then at 1e-16."""

CHUNK = 1024
"""Modes handled at once, which bounds memory to a few tens of megabytes."""


def pair_hinf(
    A_bar: Complex128[Tensor, "s"],
    B_bar: Complex128[Tensor, "s i"],
    C: Complex128[Tensor, "s o"],
    C_back: Complex128[Tensor, "s o"] | None = None,
) -> Float64[Tensor, "s"]:
    """H∞ norm of each real mode ``2·Re(C λ̄^k B̄)``, one or two directions.

    ``sup_ω ‖ v(ω) b̄ + v(−ω)* b̄* ‖₂`` with ``v = c₁/(1−λ̄e^{−jω}) + c₂/(1−λ̄e^{jω})``. The matrix
    has rank two, so its largest singular value follows from 2×2 Gram matrices.

    ``C_back`` are the output rows of the time-reversed branch. Relative accuracy is about 1e-12,
    but no better than 1e-8 of ``mode_hinf`` where the two conjugates all but cancel each other.

    Source: definition of the H∞ norm.
    Differs: LAST ranks by the norm of one complex mode, within a factor 2 of this.
    """
    stable_radius(A_bar)
    back = torch.zeros_like(C) if C_back is None else C_back
    return _chunked(_pair_supremum, A_bar, B_bar, C, back)


def _pair_supremum(
    A_bar: Complex128[Tensor, "s"],
    B_bar: Complex128[Tensor, "s i"],
    C: Complex128[Tensor, "s o"],
    C_back: Complex128[Tensor, "s o"],
) -> Float64[Tensor, "s"]:
    rho, theta = A_bar.abs()[:, None], A_bar.angle()[:, None]
    # Inner products that determine the gain at every frequency; plain ones are not conjugated.
    beta, plain_b = square_norm(B_bar)[:, None], plain_product(B_bar, B_bar)[:, None]
    forward, backward = square_norm(C)[:, None], square_norm(C_back)[:, None]
    across = plain_product(C.conj(), C_back)[:, None]
    plain_same = (plain_product(C, C) + plain_product(C_back, C_back))[:, None]
    plain_across = plain_product(C, C_back)[:, None]

    def gain(phi: Float64[Tensor, "s f"]) -> Float64[Tensor, "s f"]:
        """Return the squared largest singular value at ω = arg λ̄ + φ."""
        near, far = _resolvent(rho, phi), _resolvent(rho, 2.0 * theta + phi)
        near_square, far_square = square(near), square(far)
        first = forward * near_square + backward * far_square
        first = first + 2.0 * (across * near * far).real
        second = forward * far_square + backward * near_square
        second = second + 2.0 * (across.conj() * near * far).real
        inner = plain_same.conj() * near * far.conj()
        inner = inner + plain_across.conj() * (near**2 + far.conj() ** 2)
        trace = (first + second) * beta + 2.0 * (inner * plain_b.conj()).real
        determinant = (first * second - square(inner)) * (beta**2 - square(plain_b))
        # Both are non-negative in exact arithmetic; rounding must not reach the square root.
        trace, determinant = trace.clamp_min(0.0), determinant.clamp_min(0.0)
        return 0.5 * (trace + (trace**2 - 4.0 * determinant).clamp_min(0.0).sqrt())

    return _supremum(gain, rho)


def _resolvent(
    rho: Float64[Tensor, "s 1"], angle: Float64[Tensor, "s f"]
) -> Complex128[Tensor, "s f"]:
    """Return ``1/(1 − ρe^{j·angle})``; written so that nothing cancels near the unit circle."""
    real = (1.0 - rho) + 2.0 * rho * torch.sin(0.5 * angle) ** 2
    return 1.0 / torch.complex(real, -rho * torch.sin(angle))


def _supremum(
    gain: Callable[[Float64[Tensor, "s f"]], Float64[Tensor, "s f"]],
    rho: Float64[Tensor, "s 1"],
) -> Float64[Tensor, "s"]:
    """Root of the largest squared gain over the circle.

    Offsets ``φ = (1−ρ)·sinh(u)`` with ``u`` uniform resolve a peak of width ``1−ρ`` however
    narrow it is, and still reach the opposite side of the circle.
    """
    width = 1.0 - rho
    reach = torch.asinh(math.pi / width)
    step = 2.0 * reach / (GRID_POINTS - 1)
    grid = torch.arange(GRID_POINTS, dtype=torch.float64) - (GRID_POINTS - 1) // 2
    values = gain(width * torch.sinh(grid * step))
    centres = grid[_peaks(values)] * step
    refined = _golden_section(lambda u: gain(width * torch.sinh(u)), centres - step, centres + step)
    return torch.maximum(values.amax(dim=1), refined.amax(dim=1)).sqrt()


def _peaks(values: Float64[Tensor, "s f"]) -> Int64[Tensor, "s p"]:
    """Return the grid indices of the highest local maxima of each row."""
    edge = torch.full_like(values[:, :1], -math.inf)
    left = torch.cat([edge, values[:, :-1]], dim=1)
    right = torch.cat([values[:, 1:], edge], dim=1)
    is_peak = (values >= left) & (values >= right)
    return values.masked_fill(~is_peak, -math.inf).topk(PEAKS, dim=1).indices


def _golden_section(
    gain: Callable[[Float64[Tensor, "s f"]], Float64[Tensor, "s f"]],
    low: Float64[Tensor, "s f"],
    high: Float64[Tensor, "s f"],
) -> Float64[Tensor, "s f"]:
    """Return the largest value met while each bracket shrinks around its maximum."""
    ratio = (math.sqrt(5.0) - 1.0) / 2.0
    best = gain(0.5 * (low + high))
    for _ in range(GOLDEN_STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        gain_left, gain_right = gain(left), gain(right)
        best = torch.maximum(best, torch.maximum(gain_left, gain_right))
        rising = gain_right > gain_left
        low, high = torch.where(rising, left, low), torch.where(rising, high, right)
    return best


def _chunked(
    norm: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    *tensors: Tensor,
) -> Float64[Tensor, "s"]:
    parts = [norm(*part) for part in zip(*(t.split(CHUNK) for t in tensors), strict=True)]
    return torch.cat(parts)
