import json
import math

import pytest
import torch

from evaluation.tiny import Bidirectional, Drifting, Recurrence, sequences
from ssmith.core.errors import InputError, ModelError, UnsupportedError
from ssmith.core.settings import to_mapping
from ssmith.core.trees import place_of
from ssmith.evaluation.parity import (
    ParityCheck,
    ParityReport,
    check,
    forward_difference,
    max_difference,
    step_vs_scan,
)
from ssmith.evaluation.running import double_copy, dtype_of


def test_max_difference():
    a = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert max_difference(a, a) == 0.0
    assert max_difference(a, a + torch.tensor([0.0, 0.5])) == 0.5
    assert max_difference(a * 1j, a * 1j + 0.25) == 0.25
    assert max_difference(a[:0], a[:0]) == 0.0
    assert max_difference(a, a * math.nan) == math.inf
    # Broadcasting would compare each row with the one row.
    with pytest.raises(InputError):
        max_difference(a, a[:1])


def test_two_dtypes_are_compared_in_the_wider_one():
    a = torch.tensor([1 / 3], dtype=torch.float64)
    assert max_difference(a.float(), a) == pytest.approx(abs(float(a.float()) - 1 / 3), rel=1e-9)


def test_stepping_equals_the_full_pass_in_float64():
    model = Recurrence(states=16).train()
    assert step_vs_scan(model, sequences(count=20, length=30)) < 1e-12
    assert model.training
    assert model.a.dtype == torch.float32


def test_a_step_that_disagrees_is_seen():
    assert step_vs_scan(Drifting(), sequences()) == pytest.approx(0.25, abs=1e-12)


def test_steps_after_the_last_valid_one_do_not_matter():
    part = sequences(count=6, length=9)
    for i, length in enumerate(part.lengths.tolist()):
        part.x[i, length:] = 1e30
    assert step_vs_scan(Recurrence(), part) < 1e-12


def test_a_model_without_steps_is_named():
    with pytest.raises(UnsupportedError):
        step_vs_scan(Bidirectional(), sequences())
    with pytest.raises(ModelError, match="Linear cannot step"):
        step_vs_scan(torch.nn.Linear(2, 2), sequences())


def test_forward_difference_of_two_models():
    a, b = Recurrence(), Recurrence()
    assert forward_difference(a, b, sequences()) == 0.0
    with torch.no_grad():
        b.C[0] += 1.0
    assert forward_difference(a, b, sequences()) > 0.01


def test_double_copy_widens_complex_tensors_and_keeps_ties():
    model = torch.nn.Module()
    model.A = torch.nn.Parameter(torch.tensor([0.5 + 0.5j]))
    model.same = model.A
    model.register_buffer("mask", torch.tensor([True]))
    model.register_buffer("B", torch.tensor([1j]))
    model.D = torch.nn.Parameter(torch.ones(1))
    twin = double_copy(model)
    assert twin.A.dtype == twin.B.dtype == torch.complex128
    assert twin.D.dtype == dtype_of(twin) == torch.float64
    assert twin.mask.dtype == torch.bool
    assert twin.A is twin.same
    assert model.A.dtype == torch.complex64
    assert place_of(torch.nn.Module()).type == "cpu"


def test_report():
    def fails():
        raise UnsupportedError("bidirectional")

    report = ParityReport(
        checks=(check("shrunk_vs_masked", lambda: 1e-15), check("step_vs_scan", fails))
    )
    assert report.passed
    assert to_mapping(report.section()) == {
        "dtype": "float64",
        "shrunk_vs_masked": 1e-15,
        "step_vs_scan": None,
        "tolerance": 1e-10,
        "tolerances": {"shrunk_vs_masked": 1e-10, "step_vs_scan": 1e-10},
        "passed": True,
        "why_null": {"step_vs_scan": "bidirectional"},
    }


@pytest.mark.parametrize("worst", [2e-10, math.inf, math.nan])
def test_a_difference_beyond_the_tolerance_fails(worst):
    report = ParityReport(checks=(ParityCheck(name="saved_vs_loaded", worst=worst),))
    assert not report.passed
    json.dumps(to_mapping(report.section()), allow_nan=False)


def test_a_tolerance_of_zero_means_equal():
    assert ParityCheck(name="saved_vs_loaded", worst=0.0, tolerance=0.0).passed
    assert not ParityCheck(name="saved_vs_loaded", worst=5e-324, tolerance=0.0).passed


def test_nothing_measured_is_not_passed():
    unmeasured = ParityCheck(name="step_vs_scan", worst=None, why_null="bidirectional")
    assert not ParityReport(checks=(unmeasured,)).passed
