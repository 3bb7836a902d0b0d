"""Discretisation against the matrix exponential, its series, and its definition."""

import cmath

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from helpers.tolerances import assert_close
from helpers.unchecked import unchecked
from ssmith.core.errors import InputError
from ssmith.ops.discretise import complex_expm1, discretise, phi1

ONE = torch.ones(1, dtype=torch.float64)
parts = st.floats(-4, 4, allow_nan=False, allow_subnormal=False)


def complex128(*values):
    return torch.tensor(values, dtype=torch.complex128)


def phi1_series(z):
    """Σ z^k/(k+1)!, summed in Python's complex numbers."""
    total, term = 0j, 1 + 0j
    for k in range(1, 80):
        total += term
        term *= z / (k + 1)
    return total


@given(real=parts, imag=parts, step=st.floats(1e-4, 3))
def test_zero_order_hold_is_the_matrix_exponential(real, imag, step):
    lam = complex(real, imag)
    # exp of [[A, B], [0, 0]]·Δ holds A_bar and B_bar in its first row, singular A or not.
    block = expm([[lam * step, step], [0, 0]])
    A_bar, gain = discretise(complex128(lam), step * ONE, "zoh")
    assert_close("discretisation", A_bar, complex128(block[0, 0]))
    assert_close("discretisation", gain, complex128(block[0, 1]))


@given(real=parts, imag=parts)
def test_phi1_is_its_series(real, imag):
    z = complex(real, imag)
    assert_close("discretisation", phi1(complex128(z)), complex128(phi1_series(z)))


@pytest.mark.parametrize("size", [1e-3, 1e-8, 1e-12, 1e-16, 1e-30, 0.0])
@pytest.mark.parametrize("phase", [0.0, 0.5, 2.0, cmath.pi])
def test_no_cancellation_near_zero(size, phase):
    z = cmath.rect(size, phase)
    got = phi1(complex128(z))
    assert abs(complex(got) - phi1_series(z)) < 1e-15
    minus_one = complex(complex_expm1(complex128(z)))
    assert abs(minus_one - z * phi1_series(z)) <= 1e-15 * abs(z)


def test_the_limit_at_zero_is_the_step_and_differentiable():
    A = complex128(0, 1e-9, -0.5 + 2j).requires_grad_()
    dt = torch.full((3,), 0.25, dtype=torch.float64)
    A_bar, gain = discretise(A, dt, "zoh")
    assert complex(A_bar[0].detach()) == 1
    assert complex(gain[0].detach()) == 0.25
    (A_bar + gain).abs().sum().backward()
    assert bool(torch.isfinite(torch.view_as_real(A.grad)).all())


@given(real=parts, imag=parts, step=st.floats(1e-4, 0.2))
def test_bilinear_is_the_trapezoidal_rule(real, imag, step):
    lam = complex(real, imag)
    A_bar, gain = discretise(complex128(lam), step * ONE, "bilinear")
    # One step of x' = λx + u with constant u: x₁ = x₀ + Δ·(λ(x₀ + x₁)/2 + u).
    x0, u = 0.7 - 0.2j, 1.3 + 0.4j
    x1 = complex(A_bar) * x0 + complex(gain) * u
    assert abs(x1 - (x0 + step * (lam * (x0 + x1) / 2 + u))) < 1e-12


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
@given(real=st.floats(-50, -1e-3), imag=st.floats(-50, 50), step=st.floats(1e-4, 2))
def test_a_stable_system_stays_stable(method, real, imag, step):
    A_bar, _ = discretise(complex128(complex(real, imag)), step * ONE, method)
    assert float(A_bar.abs()) < 1


def test_both_methods_agree_to_second_order():
    lam = complex128(-0.5 + 1j)
    errors = []
    for step in (1e-2, 5e-3):
        zoh, _ = discretise(lam, step * ONE, "zoh")
        bilinear, _ = discretise(lam, step * ONE, "bilinear")
        errors.append(float((zoh - bilinear).abs()))
    assert 7.5 < errors[0] / errors[1] < 8.5


def test_no_states():
    empty = torch.zeros(0)
    A_bar, gain = discretise(torch.complex(empty, empty), empty, "zoh")
    assert A_bar.shape == gain.shape == (0,)


def test_an_unknown_method_is_named():
    with pytest.raises(InputError, match=r"'dirac'.*'zoh' or 'bilinear'"):
        unchecked(discretise)(complex128(-1), ONE, "dirac")
