"""HiPPO initial values against the matrices they come from."""

import math

import numpy as np
import pytest
import torch

from helpers.tolerances import assert_close
from helpers.unchecked import unchecked
from ssmith.core.errors import InputError
from ssmith.families.s4d.init import eigenvalues
from ssmith.families.s5.init import block_diagonal_hippo, hippo_legs_normal, log_steps


def legs(n):
    """HiPPO-LegS, entry by entry from its definition."""
    A = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            A[i, j] = -(i + 1) if i == j else -math.sqrt((2 * i + 1) * (2 * j + 1))
    return A


def normal_part(n):
    low_rank = np.sqrt(np.arange(n) + 0.5)
    return legs(n) + np.outer(low_rank, low_rank)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 17, 64])
def test_eigenpairs_give_the_matrix_back(n):
    Lambda, V = hippo_legs_normal(n)
    back = (V * Lambda) @ V.mH
    assert_close("eigenvalues", back, torch.from_numpy(normal_part(n)).to(torch.complex128))
    assert_close("eigenvalues", V.mH @ V, torch.eye(n, dtype=torch.complex128))


@pytest.mark.parametrize("n", [2, 8, 64])
def test_the_real_part_is_minus_one_half_and_pairs_are_conjugate(n):
    Lambda, _ = hippo_legs_normal(n)
    assert_close("eigenvalues", Lambda.real, torch.full((n,), -0.5, dtype=torch.float64))
    assert_close("eigenvalues", Lambda.imag, -Lambda.imag.flip(0))
    assert bool((Lambda.imag.diff() > 0).all())


def test_two_states_worked_by_hand():
    # S = [[-1/2, -√3/2], [√3/2, -1/2]], so its eigenvalues are −1/2 ± i·√3/2.
    Lambda, _ = hippo_legs_normal(2)
    half = math.sqrt(3) / 2
    expected = torch.tensor([-0.5 - 1j * half, -0.5 + 1j * half], dtype=torch.complex128)
    assert_close("eigenvalues", Lambda, expected)


@pytest.mark.parametrize(("states", "blocks"), [(6, 1), (6, 2), (6, 3), (6, 6)])
@pytest.mark.parametrize("conj_sym", [True, False])
def test_blocks_repeat_one_block(states, blocks, conj_sym):
    Lambda, V = block_diagonal_hippo(states, blocks, conj_sym)
    one, one_V = block_diagonal_hippo(states // blocks, 1, conj_sym)
    assert torch.equal(Lambda, one.repeat(blocks))
    rows, columns = one_V.shape
    assert V.shape == (rows * blocks, states)
    for i in range(blocks):
        for j in range(blocks):
            part = V[rows * i : rows * (i + 1), columns * j : columns * (j + 1)]
            assert torch.equal(part, one_V if i == j else torch.zeros_like(one_V)), (i, j)


@pytest.mark.parametrize(("states", "blocks"), [(4, 1), (6, 3)])
def test_the_half_and_its_conjugates_are_the_full_system(states, blocks):
    Lambda, V = block_diagonal_hippo(states, blocks, conj_sym=True)
    size = 2 * states // blocks
    full = np.kron(np.eye(blocks), normal_part(size))
    back = 2 * ((V * Lambda) @ V.mH).real
    assert_close("eigenvalues", back, torch.from_numpy(full))


@pytest.mark.parametrize("blocks", [0, -1, 4])
def test_blocks_that_do_not_divide(blocks):
    with pytest.raises(InputError, match="blocks"):
        block_diagonal_hippo(6, blocks, conj_sym=True)


def test_step_sizes_are_log_uniform_in_their_range():
    draw = torch.Generator().manual_seed(0)
    steps = log_steps(4000, 1e-3, 1e-1, draw)
    assert steps.shape == (4000, 1)
    assert float(steps.min()) >= math.log(1e-3)
    assert float(steps.max()) <= math.log(1e-1)
    shares = torch.histc(steps, 4) / 4000
    assert bool(((shares - 0.25).abs() < 0.03).all())


def test_s4d_lin_and_inv_from_their_formulas():
    lin = eigenvalues("lin", 3, conj_sym=True)
    expected = [complex(-0.5, math.pi * k) for k in range(3)]
    assert_close("eigenvalues", lin, torch.tensor(expected, dtype=torch.complex128))
    inv = eigenvalues("inv", 3, conj_sym=True)
    expected = [complex(-0.5, 6 / math.pi * (6 / (2 * k + 1) - 1)) for k in range(3)]
    assert_close("eigenvalues", inv, torch.tensor(expected, dtype=torch.complex128))


def test_s4d_legs_are_hippos_upper_half():
    got = eigenvalues("legs", 4, conj_sym=True)
    known = np.linalg.eigvals(normal_part(8))
    upper = sorted(known[known.imag > 0], key=lambda value: value.imag)
    assert_close("eigenvalues", got, torch.from_numpy(np.array(upper)))
    assert torch.equal(eigenvalues("hippo", 4, conj_sym=True), got)


@pytest.mark.parametrize("kind", ["lin", "inv", "legs"])
def test_without_symmetry_both_members_are_stored(kind):
    half = eigenvalues(kind, 3, conj_sym=True)
    both = eigenvalues(kind, 6, conj_sym=False)
    assert torch.equal(both, torch.cat([half, half.conj()]))


def test_what_s4d_refuses():
    with pytest.raises(InputError, match="even"):
        eigenvalues("lin", 3, conj_sym=False)
    with pytest.raises(InputError, match="'fout'"):
        unchecked(eigenvalues)("fout", 4, True)
