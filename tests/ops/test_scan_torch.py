"""The plain torch forms of the scans against their definitions, in float64."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.scan_cases import (
    EVERYTHING,
    assert_same,
    leaves,
    run_with_gradients,
    scan_inputs,
    ssd_inputs,
)  # fmt: skip
from ssmith.core.errors import InputError
from ssmith.ops.backends import use_backend
from ssmith.ops.causal_conv import causal_conv
from ssmith.ops.selective_scan import selective_scan
from ssmith.ops.selective_scan.chunked import CHUNK, selective_scan_chunked
from ssmith.ops.selective_scan.reference import selective_scan_reference
from ssmith.ops.ssd.chunked import ssd_chunked
from ssmith.ops.ssd.reference import ssd_reference

EXACT = 1e-11
OPTIONS = st.sets(st.sampled_from(EVERYTHING))


def test_reference_matches_a_hand_computed_scan():
    inputs = scan_inputs((1, 2, 1, 1), ())
    x, B, C = (getattr(inputs, name).flatten().tolist() for name in "xBC")
    dt = torch.nn.functional.softplus(inputs.dt).flatten().tolist()
    A = inputs.A.item()
    first = dt[0] * B[0] * x[0]
    second = math.exp(A * dt[1]) * first + dt[1] * B[1] * x[1]
    y, h_last = selective_scan_reference(inputs)
    assert torch.allclose(
        y.flatten(), torch.tensor([first * C[0], second * C[1]], dtype=torch.float64)
    )
    assert h_last.item() == pytest.approx(second, rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.tuples(st.integers(1, 2), st.integers(1, 70), st.integers(1, 5), st.integers(1, 5)),
    options=OPTIONS, softplus=st.booleans(),
)  # fmt: skip
def test_chunked_selective_scan_equals_reference(sizes, options, softplus):
    inputs = scan_inputs(sizes, tuple(options), softplus=softplus)
    assert_same(
        run_with_gradients(selective_scan_chunked, inputs),
        run_with_gradients(selective_scan_reference, inputs),
        EXACT,
    )


@settings(deadline=None, max_examples=30)
@given(
    length=st.integers(1, 40), heads=st.integers(1, 3), groups=st.integers(1, 2),
    p=st.integers(1, 3), n=st.integers(1, 4), chunk=st.integers(1, 40), options=OPTIONS,
)  # fmt: skip
def test_chunked_ssd_equals_reference(length, heads, groups, p, n, chunk, options):
    sizes = (2, length, heads * groups, p, groups, n)
    inputs = ssd_inputs(sizes, tuple(options), dt_limit=(0.1, 1.5))
    assert_same(
        run_with_gradients(lambda given_inputs: ssd_chunked(given_inputs, chunk=chunk), inputs),
        run_with_gradients(ssd_reference, inputs),
        EXACT,
    )


@pytest.mark.parametrize("length", [1, CHUNK, CHUNK + 1])
def test_gradcheck_of_the_chunked_scan(length):
    inputs, found = leaves(scan_inputs((1, length, 2, 2)))

    def scan(*tensors):
        return selective_scan_chunked(replace(inputs, **dict(zip(found, tensors, strict=True))))

    assert torch.autograd.gradcheck(scan, tuple(found.values()), fast_mode=length > 1)


def test_padding_leaves_the_state_as_it_was():
    inputs = scan_inputs((1, 9, 3, 2), ("h0",))
    nothing_valid = replace(inputs, valid=torch.zeros(1, 9, dtype=torch.bool))
    for scan in (selective_scan_reference, selective_scan_chunked):
        assert torch.equal(scan(nothing_valid)[1], inputs.h0)


def test_no_steps_return_the_initial_state():
    inputs = scan_inputs((2, 0, 3, 2))
    for scan in (selective_scan_reference, selective_scan_chunked):
        y, h_last = scan(inputs)
        assert y.shape == (2, 0, 3)
        assert torch.equal(h_last, inputs.h0)


def test_wrong_shapes_are_named():
    inputs = scan_inputs((1, 4, 3, 2))
    # Past the type checker of these tests, which users do not run.
    object.__setattr__(inputs, "h0", torch.zeros(1, 2, 2).double())
    with pytest.raises(InputError, match=r"h0 has shape \(1, 2, 2\)"):
        selective_scan_chunked(inputs)
    with pytest.raises(InputError, match="multiple of g"):
        ssd_chunked(ssd_inputs((1, 4, 3, 2, 2, 2)))
    with pytest.raises(InputError, match="chunk is 0"):
        ssd_chunked(ssd_inputs((1, 4, 2, 2, 2, 2)), chunk=0)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_plain_paths_take_mixed_precision(backend):
    inputs = scan_inputs((2, 9, 3, 2), ("D", "z"), dtype=torch.float32)
    wanted, _ = selective_scan_reference(inputs)
    narrow = replace(inputs, x=inputs.x.bfloat16(), B=inputs.B.bfloat16())
    with use_backend(backend):
        y, h_last = selective_scan(narrow)
        z, state = causal_conv(narrow.x, torch.ones(3, 4))
    assert (y.dtype, h_last.dtype) == (torch.bfloat16, torch.float32)
    assert (z.dtype, state.dtype) == (torch.bfloat16, torch.bfloat16)
    assert torch.allclose(y.float(), wanted, rtol=0.1, atol=0.1)
