"""The CPU kernels against the definitions: every level, odd sizes, every option and gradient."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

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
)
from ssmith.ops.native import LEVELS, force_level, library
from ssmith.ops.selective_scan import selective_scan
from ssmith.ops.selective_scan.chunked import selective_scan_chunked
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.native import selective_scan_native
from ssmith.ops.selective_scan.reference import selective_scan_reference
from ssmith.ops.selective_scan.step import selective_step_native

pytestmark = pytest.mark.skipif(library() is None, reason="no compiled kernels here")
FLOAT32 = 3e-6


@pytest.fixture(params=LEVELS)
def level(request):
    loaded = library()
    if LEVELS.index(request.param) > loaded.best_level:
        pytest.skip(f"this processor has no {request.param}")
    with force_level(request.param):
        yield request.param


SIZES = [(1, 1, 1, 1), (2, 63, 17, 3), (1, 64, 64, 16), (3, 65, 70, 5), (1, 130, 129, 2)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", [(), ("D", "z", "dt_bias"), ("h0",), EVERYTHING])
def test_kernels_equal_reference(level, sizes, options):
    inputs = scan_inputs(sizes, options)
    assert_same(
        run_with_gradients(selective_scan_native, inputs, torch.float32),
        run_with_gradients(selective_scan_reference, inputs),
        FLOAT32,
    )


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", [("dt_weight",), tuple(set(EVERYTHING) - {"valid"})])
def test_kernels_form_low_rank_steps_as_they_go(level, sizes, options, monkeypatch):
    inputs = scan_inputs(sizes, options)
    wanted = selective_scan_reference(inputs)
    narrow, _ = leaves(inputs, torch.float32)
    monkeypatch.setattr(ScanInputs, "logits", property(lambda _: pytest.fail("formed at once")))
    with torch.no_grad():
        found = selective_scan_native(narrow)
    assert_same(
        dict(zip(("y", "h"), found, strict=True)), dict(zip(("y", "h"), wanted, strict=True)),
        FLOAT32,
    )  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 150), st.integers(1, 80), st.integers(1, 20)),
    options=st.sets(st.sampled_from(EVERYTHING)), softplus=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_kernels_equal_reference_at_any_size(sizes, options, softplus, seed):
    inputs = scan_inputs(sizes, tuple(options), softplus=softplus, seed=seed)
    assert_same(
        run_with_gradients(selective_scan_native, inputs, torch.float32),
        run_with_gradients(selective_scan_chunked, inputs),
        FLOAT32,
    )


@pytest.mark.parametrize("sizes", [(1, 5000, 3, 2), (1, 333, 2, 128), (1, 200, 33, 64)])
def test_long_inputs_and_many_states(level, sizes):
    inputs = scan_inputs(sizes)
    assert_same(
        run_with_gradients(selective_scan_native, inputs, torch.float32),
        run_with_gradients(selective_scan_chunked, inputs),
        1e-5,
    )


def test_a_long_input_equals_its_pieces():
    inputs = scan_inputs((2, 301, 20, 6), ("D", "z", "dt_bias", "h0"), dtype=torch.float32)
    whole, last = selective_scan_native(inputs)
    h, pieces = inputs.h0, []
    for start, stop in [(0, 1), (1, 64), (64, 77), (77, 205), (205, 301)]:
        part = {name: getattr(inputs, name)[:, start:stop] for name in ("x", "dt", "B", "C", "z")}
        y, h = selective_scan_native(replace(inputs, h0=h, **part))
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=2e-5)
    torch.testing.assert_close(h, last, rtol=1e-5, atol=1e-5)


def test_strided_views_need_no_copy_to_be_right():
    inputs = scan_inputs((2, 70, 24, 4), ("z",), dtype=torch.float32)
    wide = torch.cat([inputs.x, inputs.z], dim=-1)
    x, z = wide.chunk(2, dim=-1)
    channels_first = inputs.dt.mT.contiguous().mT
    wanted = selective_scan_native(inputs)
    got = selective_scan_native(replace(inputs, x=x, z=z, dt=channels_first))
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one, other)


def test_results_do_not_depend_on_threads():
    inputs = scan_inputs((2, 100, 200, 4))
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run_with_gradients(selective_scan_native, inputs, torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert_same(other, results[0], 1e-6)
        assert torch.equal(other["y"], results[0]["y"])


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e4, float("nan"), float("inf")])
def test_extreme_steps(level, value):
    inputs = scan_inputs((1, 70, 20, 3), ("h0",), softplus=False, dtype=torch.float32)
    dt = inputs.dt.clone()
    dt[0, 40, 7] = value
    inputs = replace(inputs, dt=dt)
    wanted, _ = selective_scan_reference(inputs)
    got, _ = selective_scan_native(inputs)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_a_memoryless_state_is_allowed(level):
    inputs = scan_inputs((1, 70, 20, 3), ("h0", "D"), dtype=torch.float32)
    A = inputs.A.clone()
    A[:, 1] = -torch.inf
    inputs = replace(inputs, A=A)
    for one, other in zip(
        selective_scan_native(inputs), selective_scan_reference(inputs), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_half_precision_inputs_keep_a_full_precision_state():
    # Products of bfloat16 matrices are rounded to it, as torch's are, before a scan sees them.
    options = set(EVERYTHING) - {"dt_weight"}
    inputs = scan_inputs((1, 50, 16, 4), options, dtype=torch.bfloat16)
    y, h_last = selective_scan(inputs)
    assert (y.dtype, h_last.dtype) == (torch.bfloat16, torch.float32)
    wide, _ = leaves(inputs, torch.float32)
    wanted, h_wanted = selective_scan_reference(wide)
    torch.testing.assert_close(h_last, h_wanted.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(y, wanted.detach().bfloat16(), rtol=1e-2, atol=1e-2)


def test_float64_goes_to_torch_and_stays_exact():
    inputs = scan_inputs((1, 50, 5, 3))
    got, wanted = selective_scan(inputs), selective_scan_reference(inputs)
    torch.testing.assert_close(got[0], wanted[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [(), ("z", "D"), EVERYTHING])
@pytest.mark.parametrize("trained", [("h_offset",), ("y_offset",), ("h_offset", "y_offset")])
def test_offsets_alone_are_trained_without_states(options, trained):
    inputs = scan_inputs((2, 70, 20, 3), tuple({*options, *trained}))
    weight = torch.randn(2, 70, 20, generator=torch.Generator().manual_seed(1))
    gradients, outputs = [], []
    for scan, dtype in ((selective_scan_native, torch.float32),) * 2 + (
        (selective_scan_reference, torch.float64),
    ):
        given_inputs, found = leaves(inputs, dtype)
        offsets = {name: found[name] for name in trained}
        # The second time everything is tracked, as where a layer below is trained.
        tracked = offsets if len(gradients) == 0 else found
        frozen = {name: leaf.detach() for name, leaf in found.items() if name not in tracked}
        y, _ = scan(replace(given_inputs, **frozen))
        loss = (y * weight.to(dtype)).sum()
        gradients.append(torch.autograd.grad(loss, list(offsets.values())))
        outputs.append(y.detach())
    assert torch.equal(outputs[0], outputs[1])
    for narrow in gradients[:2]:
        for one, wanted in zip(narrow, gradients[2], strict=True):
            assert (one - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_operator_is_sound_for_compilers():
    inputs, found = leaves(scan_inputs((1, 20, 5, 3), ("D", "z")), torch.float32)
    A = found["A"].mT.contiguous().detach().requires_grad_()
    args = (inputs.x, inputs.dt, A, inputs.B, inputs.C, inputs.D, inputs.z, None, None, None, None)
    torch.library.opcheck(torch.ops.ssmith.selective_scan, (*args, True, True))


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 37, 5), (2, 64, 16), (1, 1536, 16), (2, 9, 130)])
@pytest.mark.parametrize("options", [(), ("D", "z", "dt_bias", "h_offset")])
def test_step_equals_reference(level, sizes, options):
    b, e, n = sizes
    inputs = scan_inputs((b, 1, e, n), (*options, "h0"), dtype=torch.float32)
    found = selective_scan(inputs)
    for got, wanted in zip(found, selective_scan_reference(inputs), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    by_kernel = selective_step_native(inputs)
    assert all(torch.equal(*pair) for pair in zip(found, by_kernel, strict=True))


def test_step_is_differentiable():
    scan = scan_inputs((1, 1, 6, 3), ("h0",), dtype=torch.float32)
    h = scan.h0.clone().requires_grad_()
    inputs = replace(scan, h0=h)
    (gradient,) = torch.autograd.grad(selective_scan(inputs)[0].sum(), h)
    (wanted,) = torch.autograd.grad(selective_scan_reference(inputs)[0].sum(), h)
    torch.testing.assert_close(gradient, wanted)


def check_compiled() -> None:
    inputs, found = leaves(scan_inputs((1, 20, 8, 4), ("D", "z")), torch.float32)

    def run(x, dt):
        return selective_scan(replace(inputs, x=x, dt=dt))[0]

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    y = compiled(inputs.x, inputs.dt)
    assert torch.equal(y, run(inputs.x, inputs.dt))
    gradient = torch.autograd.grad(y.sum(), found["x"])[0]
    wanted = torch.autograd.grad(run(inputs.x, inputs.dt).sum(), found["x"])[0]
    assert torch.allclose(gradient, wanted, rtol=1e-5, atol=1e-6)


def test_a_compiled_program_takes_the_kernels_without_a_break():
    # In a process of its own: the compiler cannot trace the type checks of this test run.
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", "import test_scan_native; test_scan_native.check_compiled()"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent), *sys.path])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
