"""The causal convolution's definition, and the state it carries."""

from dataclasses import replace

import pytest
import torch

from helpers.scan_cases import scan_inputs
from ssmith.core.errors import InputError
from ssmith.ops.causal_conv import causal_conv
from ssmith.ops.causal_conv.native import causal_conv_native
from ssmith.ops.causal_conv.reference import causal_conv_reference, check_conv
from ssmith.ops.native import LEVELS, force_level, library
from ssmith.ops.selective_scan import selective_scan
from ssmith.ops.selective_scan.reference import selective_scan_reference


def _conv_inputs(b, length, e, k):
    draw = torch.Generator().manual_seed(length)
    shapes = ((b, length, e), (e, k), (e,), (b, k - 1, e))
    return [torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_reference_equals_torch_convolution(k):
    x, weight, bias, _ = _conv_inputs(2, 9, 3, k)
    wanted = torch.nn.functional.conv1d(
        torch.nn.functional.pad(x.mT, (k - 1, 0)), weight[:, None], bias, groups=3
    ).mT
    y, state = causal_conv_reference(x, weight, bias, silu=False)
    assert torch.allclose(y, wanted, rtol=0, atol=1e-12)
    assert torch.equal(state, x[:, 9 - (k - 1) :])


def test_pieces_with_a_carried_state_equal_the_whole():
    x, weight, bias, state = _conv_inputs(2, 11, 3, 4)
    whole, last = causal_conv_reference(x, weight, bias, state)
    pieces = []
    for part in x.split([1, 2, 5, 3], dim=1):
        y, state = causal_conv_reference(part, weight, bias, state)
        pieces.append(y)
    assert torch.equal(torch.cat(pieces, dim=1), whole)
    assert torch.equal(state, last)


def test_wrong_shapes_are_named():
    x, weight, bias, state = _conv_inputs(1, 5, 3, 4)
    with pytest.raises(InputError, match="state has shape"):
        check_conv(x, weight, bias, state[:, 1:])
    with pytest.raises(InputError, match="weight"):
        check_conv(x, weight[:2], bias, None)


def test_steps_equal_the_scan():
    scan = scan_inputs((2, 7, 3, 4), ("D", "z", "dt_bias", "h0", "h_offset"))
    wanted, h_last = selective_scan_reference(scan)
    h = scan.h0
    for t in range(7):
        part = {name: getattr(scan, name)[:, t : t + 1] for name in ("x", "dt", "B", "C", "z")}
        y, h = selective_scan(replace(scan, h0=h, **part))
        assert torch.allclose(y[:, 0], wanted[:, t], rtol=0, atol=1e-12)
    assert torch.allclose(h, h_last, rtol=0, atol=1e-12)


@pytest.mark.skipif(library() is None, reason="no compiled kernels here")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 17), (1, 64, 64), (2, 131, 70)])
@pytest.mark.parametrize("optional", [True, False])
def test_kernels_equal_reference(level, k, sizes, optional):
    if LEVELS.index(level) > library().best_level:
        pytest.skip(f"this processor has no {level}")
    tensors = _conv_inputs(*sizes, k)
    if not optional:
        tensors = tensors[:2]
    for silu in (True, False):
        found = [tensor.clone().requires_grad_() for tensor in tensors]
        narrow = [tensor.float().detach().requires_grad_() for tensor in tensors]
        wanted, last = causal_conv_reference(*found, silu=silu)
        with force_level(level):
            got, last_got = causal_conv_native(*narrow, silu=silu)
            weights = torch.randn_like(wanted)
            gradients = torch.autograd.grad(
                (got * weights.float()).sum(), narrow, allow_unused=k == 1
            )
        judge = torch.autograd.grad((wanted * weights).sum(), found, allow_unused=k == 1)
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(last_got.double(), last, rtol=1e-6, atol=1e-6)
        for one, other in zip(gradients, judge, strict=True):
            if other is not None and other.numel():
                torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(library() is None, reason="no compiled kernels here")
def test_operator_is_sound_for_compilers():
    x, weight, bias, state = (tensor.float() for tensor in _conv_inputs(1, 9, 5, 4))
    args = (x.requires_grad_(), weight.mT.contiguous().requires_grad_(), bias, state, True)
    torch.library.opcheck(torch.ops.ssmith.causal_conv, args)


def test_more_taps_than_the_kernels_have_still_work():
    x, weight, bias, state = (tensor.float() for tensor in _conv_inputs(1, 9, 5, 7))
    got, wanted = causal_conv(x, weight, bias, state), causal_conv_reference(x, weight, bias, state)
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one, other)
