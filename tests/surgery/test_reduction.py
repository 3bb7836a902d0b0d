"""Projections of systems and of layers, against Lyapunov solvers and transfer functions."""

import copy
import dataclasses

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.models import KINDS, Kind, make_layer
from ssmith.calibrate import white_moments
from ssmith.core.compensation import Readout, RefitConfig
from ssmith.surgery import reduce_modes
from ssmith.surgery.reduction import balance, perturbed, truncated
from ssmith.surgery.systems import (
    RealSystem,
    diagonal_of,
    slots_needed,
    system_of_modes,
)

GRID = np.exp(1j * np.linspace(0, np.pi, 200))
seeds = st.integers(0, 500)


def random_system(seed, order=8, inputs=2, outputs=3):
    """A stable real system, not diagonal, with real and complex eigenvalues."""
    draw = np.random.default_rng(seed)
    F = draw.normal(size=(order, order))
    F *= 0.9 / np.abs(np.linalg.eigvals(F)).max()
    parts = (F, draw.normal(size=(order, inputs)), draw.normal(size=(outputs, order)))
    F, G, W = map(torch.from_numpy, parts)
    return RealSystem(F=F, G=G, W=W, D=torch.zeros(outputs, inputs, dtype=torch.float64))


def gramians(system):
    """Both Gramians by another solver."""
    F, G, W = (item.numpy() for item in (system.F, system.G, system.W))
    P = scipy.linalg.solve_discrete_lyapunov(F, G @ G.T)
    return torch.from_numpy(P), torch.from_numpy(scipy.linalg.solve_discrete_lyapunov(F.T, W.T @ W))


def response(system, z):
    """The transfer function of ``z_t = F z_{t−1} + G u_t``, ``y_t = W z_t + D u_t``."""
    F, G, W, D = (item.detach().numpy() for item in (system.F, system.G, system.W, system.D))
    return W @ np.linalg.solve(np.eye(len(F)) - F / z, G) + D


def distance(first, second):
    """The H∞ norm of the difference, on a grid (a lower bound of it)."""
    return max(np.linalg.norm(response(first, z) - response(second, z), 2) for z in GRID)


@given(seed=seeds)
def test_hankel_singular_values_are_those_of_the_gramians(seed):
    system = random_system(seed)
    P, Q = gramians(system)
    found = balance(system, P, Q)
    expected = np.sort(np.sqrt(np.linalg.eigvals((P @ Q).numpy()).real))[::-1]
    np.testing.assert_allclose(found.hankel, expected, rtol=1e-6)
    # In balanced coordinates both Gramians are the diagonal of those values.
    for gramian in gramians(found.system):
        np.testing.assert_allclose(gramian, np.diag(expected), atol=1e-6 * expected[0])


@given(seed=seeds, order=st.integers(1, 7), settle=st.booleans())
def test_the_error_stays_within_twice_the_values_left_out(seed, order, settle):
    system = random_system(seed)
    P, Q = gramians(system)
    seen = system.F.mT @ Q @ system.F if settle else Q
    found = balance(system, P, seen)
    small = (perturbed if settle else truncated)(found, order)
    assert float(torch.linalg.eigvals(small.F).abs().max()) < 1
    bound = 2 * float(found.hankel[order:].sum())
    assert distance(system, small) <= bound * (1 + 1e-6)


@given(seed=seeds, order=st.integers(1, 7))
def test_singular_perturbation_keeps_the_response_to_constant_input(seed, order):
    system = random_system(seed)
    P, Q = gramians(system)
    small = perturbed(balance(system, P, system.F.mT @ Q @ system.F), order)
    np.testing.assert_allclose(response(small, 1.0), response(system, 1.0), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_balanced_truncation_is_that_of_pymor(seed):
    iosys = pytest.importorskip("pymor.models.iosys")
    bt = pytest.importorskip("pymor.reductors.bt")
    pytest.importorskip("pymor.core.logger").set_log_levels({"pymor": "ERROR"})
    system, order = random_system(seed), 4
    F, G, W = (item.numpy() for item in (system.F, system.G, system.W))
    whole = iosys.LTIModel.from_matrices(F, G, W, sampling_time=1)
    found = balance(system, *gramians(system))
    np.testing.assert_allclose(found.hankel, whole.hsv(), rtol=1e-7)
    A, B, C = bt.BTReductor(whole).reduce(order, projection="sr").to_matrices()[:3]
    small = truncated(found, order)
    for z in GRID[::20]:
        expected = C @ np.linalg.solve(np.eye(order) - A / z, B)
        np.testing.assert_allclose(response(small, z), expected, rtol=1e-6, atol=1e-9)


@given(seed=seeds, factor=st.sampled_from([1.0, 2.0]))
def test_a_system_in_its_eigenvectors_is_the_same_system(seed, factor):
    system = random_system(seed)
    found = diagonal_of(system, factor)
    assert len(found.A) == slots_needed(system)
    again = system_of_modes(found.A, found.B, found.C, factor)
    for z in GRID[::20]:
        np.testing.assert_allclose(response(again, z), response(system, z), rtol=1e-6, atol=1e-8)


def layer_system(modes):
    """A one-way MIMO layer as a real system."""
    on = modes.present
    return system_of_modes(
        modes.A_bar[on], modes.B_bar[on], modes.C[on], 2.0 if modes.conjugate else 1.0
    )


@pytest.mark.parametrize(
    ("kind", "poles"),
    [(kind, poles) for kind in KINDS for poles in ("balanced", "perturbation")]
    + [(Kind(family), "h2") for family in ("s5", "s4d", "s4d_ragged")],
    ids=str,
)
def test_a_reduced_layer_holds_what_its_states_can(kind, poles):
    layer = make_layer(kind)
    modes = layer.modes("layer")
    keep = torch.zeros(modes.count, dtype=torch.bool)
    keep[::2] = True
    config = RefitConfig(poles=poles)
    found = reduce_modes(modes, white_moments(modes), keep, config, width=layer.width)
    assert found.modes.present.tolist() == keep.tolist()
    assert bool((found.modes.A_bar[keep].abs() < 1).all())
    assert found.condition <= config.worst_condition
    values = Readout(
        C=found.modes.C,
        C_back=found.modes.C_back,
        D_change=found.D_change,
        error=(0.0, 0.0),
        A_bar=found.modes.A_bar,
        B_bar=found.modes.B_bar,
    )
    written = copy.deepcopy(layer)
    written.write_(values)
    again = written.modes("layer")
    torch.testing.assert_close(again.A_bar, found.modes.A_bar, rtol=1e-9, atol=1e-9)
    # S4D's rows of B are ones: only the product with C says what it is.
    for mine, theirs in ((again.C, found.modes.C), (again.C_back, found.modes.C_back)):
        if mine is not None:
            product = torch.einsum("si,so->sio", again.B_bar, mine)
            expected = torch.einsum("si,so->sio", found.modes.B_bar, theirs)
            torch.testing.assert_close(product, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("conj_sym", [True, False])
def test_a_layer_cut_by_balanced_truncation_obeys_the_bound(conj_sym):
    modes = make_layer(Kind("s5", conj_sym=conj_sym), states=8).modes("layer")
    keep = torch.arange(8) < 4
    found = reduce_modes(modes, white_moments(modes), keep, RefitConfig(poles="balanced"), width=3)
    assert found.moved
    used = [i for i in range(4) if bool(found.modes.B_bar[i].any())]
    order = sum(2 if found.modes.A_bar[i].imag != 0 else 1 for i in used)
    bound = 2 * float(found.hankel[0][order:].sum())
    lost = distance(layer_system(modes), layer_system(found.modes))
    assert lost <= bound * (1 + 1e-6) + 1e-9
    plain = dataclasses.replace(modes, present=keep)
    assert lost < distance(layer_system(modes), layer_system(plain))


def test_what_cannot_be_reduced_says_so_and_stays():
    modes = make_layer(Kind("s4d")).modes("layer")
    keep = torch.tensor([True, True, False, False] * 3)
    strict = RefitConfig(poles="balanced", worst_condition=1.0)
    found = reduce_modes(modes, white_moments(modes), keep, strict, width=3)
    assert not found.moved
    assert {item.kind for item in found.findings} == {"not-reduced"}
    assert "channel 0: its eigenvectors have condition" in found.findings[0].message
    torch.testing.assert_close(found.modes.A_bar, modes.A_bar)


def test_a_full_direct_part_that_is_lost_is_told():
    modes = make_layer(Kind("s5"), states=8).modes("layer")
    config = RefitConfig(poles="perturbation")
    found = reduce_modes(modes, white_moments(modes), torch.arange(8) < 4, config, width=3)
    assert [item.kind for item in found.findings] == ["direct-part-lost"]
    assert bool(found.D_change.any())


def test_a_mode_with_a_real_eigenvalue_has_real_rows():
    F = torch.tensor([[0.5, 0.3], [0.1, -0.2]], dtype=torch.float64)
    rows = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
    system = RealSystem(F=F, G=rows, W=rows.mT, D=torch.zeros(2, 2, dtype=torch.float64))
    found = diagonal_of(system, 2.0)
    assert not found.A.imag.any()
    assert not found.B.imag.any()
    assert not found.C.imag.any()
