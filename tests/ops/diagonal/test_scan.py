"""The chunked scan against the loop it stands for: outputs, last state, every gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.tolerances import assert_close
from ssmith.core.errors import UnsupportedError
from ssmith.ops.diagonal import diagonal_scan
from ssmith.ops.diagonal.reference import diagonal_scan as reference

LENGTHS = [*range(1, 70, 2), 64, 997]


def system(length, *, batch=2, states=5, seed=0, dtype=torch.complex128, radius=0.95):
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.complex128).to(dtype)

    A_bar = normal(states)
    A_bar = radius * A_bar / A_bar.abs()
    return A_bar, normal(batch, length, states), normal(batch, states)


def outcome(scan, A_bar, Bu, x0, weights, *, reverse):
    """States, last state and the gradients of a random read-out of both."""
    inputs = [item.clone().requires_grad_() for item in (A_bar, Bu, x0) if item is not None]
    states, last = scan(*inputs, reverse=reverse)
    loss = (states * weights[0]).sum().real + (last * weights[1]).sum().real
    return [states.detach(), last.detach()], torch.autograd.grad(loss, inputs)


def assert_twins(A_bar, Bu, x0, *, reverse):
    draw = torch.Generator().manual_seed(9)
    weights = [
        torch.randn(shape, generator=draw, dtype=torch.complex128).to(Bu.dtype)
        for shape in (Bu.shape, Bu[:, 0].shape)
    ]
    fast, fast_grads = outcome(diagonal_scan, A_bar, Bu, x0, weights, reverse=reverse)
    slow, slow_grads = outcome(reference, A_bar, Bu, x0, weights, reverse=reverse)
    for got, expected in zip(fast, slow, strict=True):
        assert_close("twin", got, expected)
    for got, expected in zip(fast_grads, slow_grads, strict=True):
        assert_close("twin gradient", got, expected)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("started", [False, True])
def test_fast_twin_equals_reference(length, reverse, started):
    A_bar, Bu, x0 = system(length, seed=length)
    assert_twins(A_bar, Bu, x0 if started else None, reverse=reverse)


@given(
    length=st.integers(1, 80),
    batch=st.integers(1, 3),
    states=st.integers(1, 4),
    reverse=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_fast_twin_equals_reference_at_any_size(length, batch, states, reverse, seed):
    A_bar, Bu, x0 = system(length, batch=batch, states=states, seed=seed)
    assert_twins(A_bar, Bu, x0, reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_zero_and_unstable_and_unit_eigenvalues(reverse):
    _, Bu, x0 = system(37)
    A_bar = torch.tensor([0, 1, -1, 1.05 + 0.1j, 1e-200], dtype=torch.complex128)
    assert_twins(A_bar, Bu, x0, reverse=reverse)


def test_a_zero_eigenvalue_passes_its_input_on_unchanged():
    _, Bu, x0 = system(17)
    states, _ = diagonal_scan(torch.zeros(5, dtype=torch.complex128), Bu, x0)
    assert torch.equal(states, Bu)


def test_a_state_without_input_stays_exactly_zero():
    A_bar, Bu, _ = system(50)
    Bu[..., 2] = 0
    states, last = diagonal_scan(A_bar, Bu)
    assert torch.equal(states[..., 2], torch.zeros_like(states[..., 2]))
    assert torch.equal(last[:, 2], torch.zeros_like(last[:, 2]))


def test_float32_stays_near_float64():
    A_bar, Bu, x0 = system(301, dtype=torch.complex64, radius=0.99)
    states, last = diagonal_scan(A_bar, Bu, x0)
    wide, wide_last = reference(*(item.to(torch.complex128) for item in (A_bar, Bu, x0)))
    torch.testing.assert_close(states, wide.to(torch.complex64), atol=2e-4, rtol=2e-5)
    torch.testing.assert_close(last, wide_last.to(torch.complex64), atol=2e-4, rtol=2e-5)


@pytest.mark.parametrize("scan", [diagonal_scan, reference])
@pytest.mark.parametrize("reverse", [False, True])
def test_no_steps_return_the_start(scan, reverse):
    A_bar, Bu, x0 = system(0)
    states, last = scan(A_bar, Bu, x0, reverse=reverse)
    assert states.shape == (2, 0, 5)
    assert torch.equal(last, x0)
    assert torch.equal(scan(A_bar, Bu)[1], torch.zeros_like(x0))


@pytest.mark.parametrize("scan", [diagonal_scan, reference])
def test_no_states(scan):
    A_bar, Bu, x0 = system(9, states=0)
    states, last = scan(A_bar, Bu, x0)
    assert states.shape == (2, 9, 0)
    assert last.shape == (2, 0)


@pytest.mark.parametrize("length", [4, 5, 16, 30])
@pytest.mark.parametrize("reverse", [False, True])
def test_any_memory_layout_of_input_and_gradient(length, reverse):
    A_bar, Bu, x0 = system(length)
    laid_out = Bu.mT.contiguous().mT
    assert not laid_out.is_contiguous()
    expected, _ = reference(A_bar, Bu, x0, reverse=reverse)
    inputs = laid_out.clone(memory_format=torch.preserve_format).requires_grad_()
    states, _ = diagonal_scan(A_bar, inputs, x0, reverse=reverse)
    assert_close("twin", states.detach(), expected)
    # The gradient of a transposed read-out arrives transposed.
    states.mT.contiguous().square().sum().real.backward()
    plain = Bu.clone().requires_grad_()
    reference(A_bar, plain, x0, reverse=reverse)[0].square().sum().real.backward()
    assert_close("twin gradient", inputs.grad, plain.grad)


def test_an_expanded_input():
    A_bar, Bu, _ = system(9)
    expanded = Bu[:, :1].expand(2, 9, 5)
    assert_close("twin", diagonal_scan(A_bar, expanded)[0], reference(A_bar, expanded)[0])


def test_inputs_are_left_alone():
    A_bar, Bu, x0 = system(12)
    before = [item.clone() for item in (A_bar, Bu, x0)]
    for reverse in (False, True):
        diagonal_scan(A_bar, Bu, x0, reverse=reverse)
    for item, old in zip((A_bar, Bu, x0), before, strict=True):
        assert torch.equal(item, old)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7])
def test_gradients_by_finite_differences(length, reverse):
    inputs = [item.requires_grad_() for item in system(length, states=3)]
    assert torch.autograd.gradcheck(
        lambda A_bar, Bu, x0: diagonal_scan(A_bar, Bu, x0, reverse=reverse), inputs
    )


def test_a_second_derivative_is_refused_not_wrong():
    inputs = [item.requires_grad_() for item in system(6)]
    states, _ = diagonal_scan(*inputs)
    (grad,) = torch.autograd.grad(states.abs().square().sum(), inputs[0], create_graph=True)
    with pytest.raises(UnsupportedError, match="a second derivative of the diagonal scan"):
        grad.abs().sum().backward()


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_two_halves_equal_the_whole(cut):
    A_bar, Bu, x0 = system(13)
    whole, last = diagonal_scan(A_bar, Bu, x0)
    first, middle = diagonal_scan(A_bar, Bu[:, :cut], x0)
    second, end = diagonal_scan(A_bar, Bu[:, cut:], middle)
    assert_close("twin", torch.cat([first, second], dim=1), whole)
    assert_close("twin", end, last)
