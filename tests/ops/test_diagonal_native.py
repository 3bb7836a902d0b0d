"""The diagonal scan on the CPU kernels against its definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmith.ops.diagonal import diagonal_scan, native, reference
from ssmith.ops.native import LEVELS, force_level, library

pytestmark = pytest.mark.skipif(library() is None, reason="no compiled kernels here")


def draw_inputs(b, length, s, seed=0):
    draw = torch.Generator().manual_seed(seed)
    phase = torch.rand(s, generator=draw, dtype=torch.float64) * 6.3
    A_bar = torch.polar(torch.rand(s, generator=draw, dtype=torch.float64), phase)
    shapes = ((b, length, s), (b, s))
    return A_bar, *(torch.randn(*shape, generator=draw, dtype=torch.complex128) for shape in shapes)


def results(scan, tensors, *, with_x0, reverse):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    states, last = scan(*leaves[: 3 if with_x0 else 2], reverse=reverse)
    weight = torch.randn(states.shape, generator=torch.Generator().manual_seed(1)).to(states)
    loss = (states * weight).sum().real + (last * (0.3 - 0.7j)).sum().real
    gradients = torch.autograd.grad(loss, leaves[: 3 if with_x0 else 2])
    return [states.detach(), last.detach(), *gradients]


def check(sizes, *, with_x0, reverse, seed=0):
    tensors = draw_inputs(*sizes, seed)
    wanted = results(reference.diagonal_scan, tensors, with_x0=with_x0, reverse=reverse)
    narrow = [tensor.to(torch.complex64) for tensor in tensors]
    got = results(native.diagonal_scan, narrow, with_x0=with_x0, reverse=reverse)
    for one, other in zip(got, wanted, strict=True):
        scale = other.abs().max().clamp_min(0.1)
        assert ((one - other).abs().max() / scale) < 5e-6


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 37, 5), (1, 200, 33), (3, 64, 64)])
@pytest.mark.parametrize("with_x0", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_kernels_equal_reference(level, sizes, with_x0, reverse):
    if LEVELS.index(level) > library().best_level:
        pytest.skip(f"this processor has no {level}")
    with force_level(level):
        check(sizes, with_x0=with_x0, reverse=reverse)


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 90), st.integers(1, 40)),
    with_x0=st.booleans(), reverse=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_kernels_equal_reference_at_any_size(sizes, with_x0, reverse, seed):
    check(sizes, with_x0=with_x0, reverse=reverse, seed=seed)


def test_conjugated_and_strided_inputs_are_read_right():
    A_bar, Bu, x0 = (tensor.to(torch.complex64) for tensor in draw_inputs(2, 20, 6))
    wide = torch.cat([Bu, Bu], dim=-1)
    got, _ = native.diagonal_scan(A_bar.conj(), wide[..., 6:], x0)
    wanted, _ = reference.diagonal_scan(A_bar.conj(), Bu, x0)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_states_take_the_place_of_inputs_only_where_allowed_and_untracked():
    A_bar, Bu, x0 = (tensor.to(torch.complex64) for tensor in draw_inputs(2, 20, 6))
    wanted, _ = diagonal_scan(A_bar, Bu, x0)
    for overwrite, tracked in [(False, False), (True, True), (True, False)]:
        given_Bu = Bu.clone().requires_grad_(tracked)
        states, last = diagonal_scan(A_bar, given_Bu, x0, overwrite=overwrite)
        assert torch.equal(states, wanted)
        assert torch.equal(last, wanted[:, -1])
        replaced = overwrite and not tracked
        assert torch.equal(given_Bu.detach(), wanted if replaced else Bu)


def test_the_dispatched_scan_takes_no_steps_gracefully():
    A_bar, Bu, x0 = (tensor.to(torch.complex64) for tensor in draw_inputs(2, 3, 6))
    states, last = diagonal_scan(A_bar, Bu[:, :0], x0)
    assert states.shape == (2, 0, 6)
    assert torch.equal(last, x0)


def test_operator_is_sound_for_compilers():
    A_bar, Bu, x0 = (tensor.to(torch.complex64).requires_grad_() for tensor in draw_inputs(2, 9, 3))
    torch.library.opcheck(torch.ops.ssmith.diagonal_scan, (A_bar, Bu, x0, False))
