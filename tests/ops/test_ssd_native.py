"""Mamba-2's scan on the CPU kernels against its definition: every level, option and gradient."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.scan_cases import assert_same, leaves, run_with_gradients, ssd_inputs
from ssmith.ops.backends import use_backend
from ssmith.ops.native import LEVELS, force_level, library
from ssmith.ops.ssd import ssd
from ssmith.ops.ssd.chunked import ssd_chunked
from ssmith.ops.ssd.native import ssd_native
from ssmith.ops.ssd.reference import ssd_reference

pytestmark = pytest.mark.skipif(library() is None, reason="no compiled kernels here")
FLOAT32 = 4e-6
OPTIONS = ("D", "dt_bias", "h0", "h_offset", "valid")
# (b, l, h, p, g, n): one of everything, odd channels, several groups, whole and broken chunks.
SIZES = [(1, 1, 1, 1, 1, 1), (2, 63, 4, 5, 2, 3), (1, 64, 2, 64, 1, 16), (2, 130, 3, 33, 1, 6)]


@pytest.fixture(params=LEVELS)
def level(request):
    if LEVELS.index(request.param) > library().best_level:
        pytest.skip(f"this processor has no {request.param}")
    with force_level(request.param):
        yield request.param


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", [(), ("D", "h0"), OPTIONS])
def test_kernels_equal_reference(level, sizes, options):
    inputs = ssd_inputs(sizes, options)
    assert_same(
        run_with_gradients(ssd_native, inputs, torch.float32),
        run_with_gradients(ssd_reference, inputs),
        FLOAT32,
    )


@settings(max_examples=15)
@given(
    b=st.integers(1, 3), length=st.integers(1, 150), heads=st.integers(1, 3),
    groups=st.integers(1, 3), p=st.integers(1, 40), n=st.integers(1, 20),
    options=st.sets(st.sampled_from(OPTIONS)), seed=st.integers(0, 99),
)  # fmt: skip
def test_kernels_equal_reference_at_any_size(b, length, heads, groups, p, n, options, seed):
    sizes = (b, length, heads * groups, p, groups, n)
    inputs = ssd_inputs(sizes, tuple(options), dt_limit=(0.1, 1.5), seed=seed)
    assert_same(
        run_with_gradients(ssd_native, inputs, torch.float32),
        run_with_gradients(ssd_chunked, inputs),
        FLOAT32,
    )


@pytest.mark.parametrize("sizes", [(1, 5000, 1, 3, 1, 2), (1, 200, 2, 8, 1, 128)])
def test_long_inputs_and_many_states(sizes):
    inputs = ssd_inputs(sizes, ("h0",))
    assert_same(
        run_with_gradients(ssd_native, inputs, torch.float32),
        run_with_gradients(ssd_chunked, inputs),
        1e-5,
    )


def test_a_long_input_equals_its_pieces():
    inputs = ssd_inputs((2, 201, 4, 20, 2, 6), ("D", "dt_bias", "h0"), dtype=torch.float32)
    whole, last = ssd_native(inputs)
    h, pieces = inputs.h0, []
    for start, stop in [(0, 1), (1, 64), (64, 77), (77, 201)]:
        part = {name: getattr(inputs, name)[:, start:stop] for name in ("x", "dt", "B", "C")}
        y, h = ssd_native(replace(inputs, h0=h, **part))
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=3e-5)
    torch.testing.assert_close(h, last, rtol=1e-5, atol=1e-5)


def test_parts_of_one_projection_need_no_copy_to_be_right():
    inputs = ssd_inputs((2, 70, 4, 6, 2, 5), dtype=torch.float32)
    flat = [inputs.x.flatten(2), inputs.B.flatten(2), inputs.C.flatten(2)]
    x, B, C = torch.cat(flat, dim=-1).split([24, 10, 10], dim=-1)
    views = {"x": x.unflatten(-1, (4, 6)), "B": B.unflatten(-1, (2, 5))}
    views["C"] = C.unflatten(-1, (2, 5))
    got, wanted = ssd_native(replace(inputs, **views)), ssd_native(inputs)
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one, other)


def test_results_do_not_depend_on_threads():
    inputs = ssd_inputs((2, 100, 6, 24, 2, 16))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run_with_gradients(ssd_native, inputs, torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert_same(other, results[0], 1e-6)
        assert torch.equal(other["y"], results[0]["y"])


@pytest.mark.parametrize("value", [0.0, 1e4, float("nan"), float("inf")])
def test_extreme_steps(level, value):
    inputs = ssd_inputs((1, 70, 2, 5, 1, 3), ("h0",), dtype=torch.float32)
    dt = inputs.dt.abs()
    dt[0, 40, 1] = value
    inputs = replace(inputs, dt=dt, dt_softplus=False)
    wanted, _ = ssd_reference(inputs)
    got, _ = ssd_native(inputs)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_half_precision_inputs_keep_a_full_precision_state():
    inputs = ssd_inputs((1, 50, 4, 6, 2, 5), dtype=torch.bfloat16)
    y, h_last = ssd(inputs)
    assert (y.dtype, h_last.dtype) == (torch.bfloat16, torch.float32)
    wide, _ = leaves(inputs, torch.float32)
    wanted, _ = ssd_reference(wide)
    torch.testing.assert_close(y, wanted.detach().bfloat16(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("sizes", [(0, 5, 2, 3, 1, 2), (1, 0, 2, 3, 1, 2), (1, 5, 2, 3, 1, 0)])
def test_what_has_no_elements_still_has_a_shape(sizes):
    y, h_last = ssd(ssd_inputs(sizes, (), dtype=torch.float32))
    b, length, h, p, _, n = sizes
    assert y.shape == (b, length, h, p)
    assert h_last.shape == (b, h, p, n)


def test_the_kernels_run_by_themselves_and_can_be_left_out():
    inputs = ssd_inputs((1, 40, 2, 8, 1, 4), dtype=torch.float32)
    assert torch.equal(ssd(inputs)[0], ssd_native(inputs)[0])
    with use_backend("torch"):
        assert torch.equal(ssd(inputs)[0], ssd_chunked(inputs)[0])


def test_operator_is_sound_for_compilers():
    inputs, found = leaves(ssd_inputs((1, 20, 2, 5, 1, 3), ("D",)), torch.float32)
    dt = found["dt"].detach().abs().requires_grad_()
    args = (inputs.x, dt, inputs.A, inputs.B, inputs.C, inputs.D, None, None)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.ssmith.ssd, (*args, True), test_utils=checks)
