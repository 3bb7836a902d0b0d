"""The Triton kernels: in the interpreter everywhere, on a GPU where there is one."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from helpers.scan_cases import EVERYTHING, assert_same, run_with_gradients, scan_inputs
from ssmith.ops.selective_scan.reference import selective_scan_reference
from ssmith.ops.selective_scan.triton import Launch, selective_scan_triton

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

# sizes, options, launch: one block, several blocks, time in several stretches, one state.
CASES = [
    ((1, 5, 3, 2), (), Launch(channels=4, gradient_channels=4)),
    ((2, 37, 9, 3), EVERYTHING, Launch(channels=8, gradient_channels=4)),
    ((1, 70, 5, 4), ("D", "z", "h0"), Launch(channels=8, shortest=16, programs=64)),
    ((1, 50, 5, 1), ("h_offset", "dt_bias"), Launch(channels=4, shortest=16, programs=64)),
]


def check_in_this_process() -> None:
    for sizes, options, launch in CASES:
        inputs = scan_inputs(sizes, options)
        assert_same(
            run_with_gradients(
                lambda given, launch=launch: selective_scan_triton(given, launch),
                inputs, torch.float32,
            ),
            run_with_gradients(selective_scan_reference, inputs),
            5e-6,
        )  # fmt: skip


@needs_triton
def test_kernels_in_the_interpreter_equal_reference():
    # The interpreter is chosen when triton is imported, so it needs a process of its own.
    here = Path(__file__).parent
    code = "import test_scan_triton; test_scan_triton.check_in_this_process()"
    paths = os.pathsep.join([str(here), str(here.parent), *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.mark.parametrize(
    ("sizes", "count"), [((1, 2048, 1536), 16), ((64, 2048, 4096), 1), ((1, 7, 3), 1)]
)
def test_time_is_cut_only_where_channels_are_few(sizes, count):
    launch = Launch()
    stretches, span = launch.stretches(*sizes)
    assert stretches == count
    assert (stretches - 1) * span < sizes[1] <= stretches * span


@pytest.mark.gpu
@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize(
    "sizes",
    [(1, 1, 1, 1), (2, 63, 17, 3), (1, 1000, 70, 16), (3, 65, 130, 5), (1, 130, 33, 64),
     (1, 70, 40, 128)],
)  # fmt: skip
@pytest.mark.parametrize("options", [(), ("D", "z", "dt_bias"), EVERYTHING])
def test_kernels_on_a_gpu_equal_reference(sizes, options):
    inputs = scan_inputs(sizes, options)
    on_gpu = replace(inputs, **{name: tensor.cuda() for name, tensor in inputs.tensors().items()})
    got = run_with_gradients(selective_scan_triton, on_gpu, torch.float32)
    assert_same(
        {name: tensor.cpu() for name, tensor in got.items()},
        run_with_gradients(selective_scan_reference, inputs),
        5e-6,
    )
