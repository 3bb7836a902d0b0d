"""Norms of single modes against impulse responses and full transfer matrices."""

import math
from functools import partial

import pytest
import torch

from ssmith.core.errors import InputError
from ssmith.ops.norms import (
    mode_h2_squared,
    mode_hinf,
    pair_h2_squared,
)
from ssmith.ops.suprema import pair_hinf

LAGS = 4000


def modes(seed, count, inputs, outputs, rho=(0.0, 0.98), real=False):
    g = torch.Generator().manual_seed(seed)

    def rows(width):
        return torch.randn(count, width, dtype=torch.complex128, generator=g)

    radius = rho[0] + (rho[1] - rho[0]) * torch.rand(count, dtype=torch.float64, generator=g)
    angle = (2 * torch.rand(count, dtype=torch.float64, generator=g) - 1) * math.pi
    if real:
        angle = torch.zeros_like(angle)
    return torch.polar(radius, angle), rows(inputs), rows(outputs), rows(outputs)


def impulse_response(lam, b, c, c_back=None):
    """Responses of one complex mode at lags −LAGS … LAGS, as full matrices."""
    powers = lam ** torch.arange(LAGS, dtype=torch.float64)
    ahead = powers[:, None, None] * torch.outer(c, b)
    if c_back is None:
        return ahead
    behind = powers[:, None, None] * torch.outer(c_back, b)
    return torch.cat([behind[1:].flip(0), ahead[:1] + behind[:1], ahead[1:]])


def largest_gain(matrix_at, lam):
    """Spectral norm of full transfer matrices on a fine grid, finest near ±arg λ̄."""
    spread = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    width = 4 * (1 - lam.abs())
    everywhere = math.pi * torch.linspace(-1, 1, 8001, dtype=torch.float64)
    omega = torch.cat([everywhere, lam.angle() + width * spread, -lam.angle() + width * spread])
    return torch.linalg.matrix_norm(matrix_at(omega), ord=2).max()


def transfer(lam, b, c, omega):
    resolvent = 1 / (torch.exp(1j * omega) - lam)
    return resolvent[:, None, None] * torch.outer(c, b)


def pair_transfer(lam, b, c, omega):
    return transfer(lam, b, c, omega) + transfer(lam.conj(), b.conj(), c.conj(), omega)


def delay_free(lam, b, c, omega):
    return torch.exp(1j * omega)[:, None, None] * transfer(lam, b, c, omega)


def two_way(lam, b, c, c_back, omega):
    return delay_free(lam, b, c, omega) + delay_free(lam, b, c_back, -omega)


def two_way_pair(lam, b, c, c_back, omega):
    conjugated = two_way(lam.conj(), b.conj(), c.conj(), c_back.conj(), omega)
    return two_way(lam, b, c, c_back, omega) + conjugated


SHAPES = [(1, 1), (3, 5), (1, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_h2_is_the_energy_of_the_impulse_response(shape):
    A, B, C, C_back = modes(1, 6, *shape)
    for i in range(6):
        one = impulse_response(A[i], B[i], C[i])
        both = impulse_response(A[i], B[i], C[i], C_back[i])
        for given, response in [
            (mode_h2_squared(A, B, C), one),
            (pair_h2_squared(A, B, C), 2 * one.real),
            (pair_h2_squared(A, B, C, C_back), 2 * both.real),
        ]:
            torch.testing.assert_close(given[i], response.abs().square().sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_hinf_is_the_largest_gain_over_frequency(shape):
    A, B, C, C_back = modes(2, 6, *shape)
    for given, matrix_of in [
        (mode_hinf(A, B, C), lambda i, w: transfer(A[i], B[i], C[i], w)),
        (pair_hinf(A, B, C), lambda i, w: pair_transfer(A[i], B[i], C[i], w)),
        (pair_hinf(A, B, C, C_back), lambda i, w: two_way_pair(A[i], B[i], C[i], C_back[i], w)),
    ]:
        for i in range(6):
            oracle = largest_gain(partial(matrix_of, i), A[i])
            # A grid can only miss the peak, and by no more than its spacing allows.
            assert given[i] >= oracle * (1 - 1e-12)
            torch.testing.assert_close(given[i], oracle, rtol=2e-6, atol=0)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_hinf_of_very_slow_modes_stays_between_its_bounds(gap):
    A, B, C, _ = modes(3, 40, 2, 3, rho=(1 - gap, 1 - gap))
    single = mode_hinf(A, B, C)
    pair = pair_hinf(A, B, C)
    assert bool((pair <= 2 * single * (1 + 1e-9)).all())
    # Far from the real axis the conjugate is out of resonance and only one of the two rings.
    ringing = (A.angle().sin().abs() > 0.1) & (A.angle().abs() < 3.0)
    assert int(ringing.sum()) > 20
    torch.testing.assert_close(pair[ringing], single[ringing], rtol=40 * gap + 1e-6, atol=0)


def test_real_mode_counts_twice():
    A, B, C, _ = modes(4, 5, 2, 3, real=True)
    B, C = B.real.to(torch.complex128), C.real.to(torch.complex128)
    torch.testing.assert_close(pair_hinf(A, B, C), 2 * mode_hinf(A, B, C), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        pair_h2_squared(A, B, C), 4 * mode_h2_squared(A, B, C), rtol=1e-12, atol=0
    )


def test_conjugates_that_cancel_have_no_norm():
    A = torch.tensor([0.9], dtype=torch.complex128)
    B, C = torch.ones(1, 1, dtype=torch.complex128), 1j * torch.ones(1, 1, dtype=torch.complex128)
    assert float(pair_h2_squared(A, B, C)) == 0.0
    assert float(pair_hinf(A, B, C)) <= 1e-7 * float(mode_hinf(A, B, C))


def test_many_modes_equal_one_at_a_time():
    A, B, C, C_back = modes(5, 1030, 1, 1)
    together = pair_hinf(A, B, C, C_back)
    for i in (0, 1023, 1024, 1029):
        one = slice(i, i + 1)
        torch.testing.assert_close(together[one], pair_hinf(A[one], B[one], C[one], C_back[one]))


@pytest.mark.parametrize("norm", [mode_hinf, mode_h2_squared, pair_hinf, pair_h2_squared])
def test_no_modes_no_norms(norm):
    A, B, C, _ = modes(6, 0, 2, 2)
    assert norm(A, B, C).shape == (0,)


@pytest.mark.parametrize("norm", [mode_hinf, mode_h2_squared, pair_hinf, pair_h2_squared])
@pytest.mark.parametrize("value", [1.0, 1.5, float("nan")])
def test_unstable_modes_are_refused(norm, value):
    A, B, C, _ = modes(7, 3, 2, 2)
    A[1] = value
    with pytest.raises(InputError, match="1 of 3 modes"):
        norm(A, B, C)
