"""One step of a whole mixer in one operation, against the operations it is made of."""

from dataclasses import replace

import pytest
import torch

from ssmith.core.errors import InputError
from ssmith.ops.mixer_step.inputs import MixerStepInputs
from ssmith.ops.mixer_step.native import fits, mixer_step_native_
from ssmith.ops.mixer_step.reference import mixer_step_reference_
from ssmith.ops.native import LEVELS, force_level, library

needs_kernels = pytest.mark.skipif(library() is None, reason="no compiled kernels here")
OPTIONS = ("in_bias", "conv_bias", "dt_bias", "D", "out_bias", "h_offset", "y_offset")
# (b, m, e, n, r, k): one of everything, odd sizes, several vectors of everything.
SIZES = [(1, 1, 1, 1, 1, 1), (3, 7, 13, 5, 2, 3), (2, 40, 70, 16, 3, 4), (1, 33, 66, 35, 5, 2)]


def step_inputs(sizes, options=OPTIONS, dtype=torch.float64):
    b, m, e, n, r, k = sizes
    draw = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    given = {
        "in_bias": normal(2 * e), "conv_bias": normal(e), "dt_bias": normal(e), "D": normal(e),
        "out_bias": normal(m), "h_offset": normal(e, n), "y_offset": normal(e),
    }  # fmt: skip
    return MixerStepInputs(
        hidden=normal(b, m), in_weight=normal(2 * e, m) / m**0.5, conv_weight=normal(e, k),
        x_weight=normal(r + 2 * n, e) / e**0.5, dt_weight=normal(e, r), A_log=normal(e, n),
        out_weight=normal(m, e) / e**0.5, conv_state=normal(b, e, k), h=normal(b, e, n),
        **{name: value for name, value in given.items() if name in options},
    )  # fmt: skip


def several(step, inputs, dtype):
    """Run a few steps, each on what the one before left; return outputs and the states."""
    held = {name: value.to(dtype).clone() for name, value in vars(inputs).items()
            if value is not None}  # fmt: skip
    mine, outputs = replace(inputs, **held), []
    for number in range(3):
        outputs.append(step(replace(mine, hidden=mine.hidden * (number + 1))))
    return torch.stack(outputs), mine.conv_state, mine.h


@needs_kernels
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("options", [(), OPTIONS])
def test_the_kernel_equals_the_reference(level, sizes, options):
    if LEVELS.index(level) > library().best_level:
        pytest.skip(f"this processor has no {level}")
    inputs = step_inputs(sizes, options)
    wanted = several(mixer_step_reference_, inputs, torch.float64)
    with force_level(level):
        got = several(mixer_step_native_, inputs, torch.float32)
    for one, other in zip(got, wanted, strict=True):
        gap = (one.double() - other).abs().max() / other.abs().max().clamp_min(0.1)
        assert gap < 1e-5


@needs_kernels
def test_results_do_not_depend_on_threads():
    inputs, before, results = step_inputs((2, 300, 300, 8, 9, 4)), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(several(mixer_step_native_, inputs, torch.float32))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(other, results[0], strict=True))


@needs_kernels
def test_what_the_kernel_cannot_read_goes_to_the_reference():
    inputs = step_inputs((2, 5, 8, 4, 2, 4), dtype=torch.float32)
    assert fits(inputs)
    for name, other in (
        ("conv_state", inputs.conv_state.mT.contiguous().mT),
        ("h", inputs.h.double()),
        ("in_weight", inputs.in_weight.bfloat16()),
        ("out_weight", torch.nn.Buffer(inputs.out_weight).as_subclass(Strange)),
    ):
        assert not fits(replace(inputs, **{name: other})), name


class Strange(torch.Tensor):
    """A tensor whose memory means something else, as a quantised weight's does."""


def test_a_wrong_shape_is_named():
    inputs = step_inputs((2, 5, 8, 4, 2, 4), dtype=torch.float32)
    for step in (mixer_step_native_, mixer_step_reference_):
        with pytest.raises(InputError, match=r"x_weight has shape \(9, 8\)"):
            step(replace(inputs, x_weight=inputs.x_weight[:-1]))
