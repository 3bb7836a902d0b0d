"""Parity of paths for models of our own, on random input."""

import pytest
import torch

from ssmith.core.errors import InputError, UnsupportedError
from ssmith.evaluation.path_rows import PathParityConfig
from ssmith.evaluation.paths import check_paths
from ssmith.families import LTIOptions, S5Layer, SequenceConfig, SequenceModel

SMALL = PathParityConfig(length=18, batch=3)


def tiny(family="s5", **settings):
    shape = {"width": 6, "states": (8, 4), "outputs": 3, "channels": 2} | settings
    return SequenceModel(
        SequenceConfig(family=family, **shape), torch.Generator().manual_seed(0)
    ).eval()


@pytest.mark.parametrize("family", ["s5", "s4d"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("source", [{"channels": 2}, {"channels": None, "vocabulary": 11}])
def test_every_path_agrees(family, pooling, source):
    model = tiny(family, pooling=pooling, **source)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = check_paths(model, SMALL)
    assert report.passed, report.worst
    names = {check.name for check in report.checks}
    for dtype in ("float64", "float32"):
        assert {
            f"whole against step by step ({dtype})",
            *(f"whole against chunks of {chunk} ({dtype})" for chunk in (1, 3, 13)),
            f"padded in a batch against alone ({dtype})",
            f"padded more against less ({dtype})",
            f"torch against reference ({dtype})",
        } <= names
    assert [path["op"] for path in report.paths] == ["diagonal_scan"]
    assert report.left_out == ()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_masked_model_of_ragged_states_passes_too():
    model = tiny("s4d", states=((1, 2, 3, 4, 5, 6),))
    layer = model.blocks[0].ssm
    keep = torch.ones(layer.grid(), dtype=torch.bool)
    keep.view(-1)[::3] = False
    layer.mask_(keep)
    assert check_paths(model, SMALL).passed


def test_what_a_bidirectional_model_cannot_do_is_listed():
    report = check_paths(tiny(options=LTIOptions(bidirectional=True)), SMALL)
    assert report.passed
    assert report.as_dict()["left_out"][0]["reason"].startswith("a bidirectional model")
    assert not any("step" in check.name or "chunks" in check.name for check in report.checks)


@pytest.mark.parametrize("family", ["s5", "s4d"])
def test_a_fault_in_one_way_is_found_by_the_checks_of_that_way(family, monkeypatch):
    kind = type(tiny(family).blocks[0].ssm)
    step = kind.step

    def forgetful(self, u, state, discrete=None, out=None):
        return step(self, u, torch.zeros_like(state), discrete, out)

    monkeypatch.setattr(kind, "step", forgetful)
    report = check_paths(tiny(family), SMALL)
    failed = {check.name for check in report.checks if not check.passed}
    assert failed == {f"whole against step by step ({dtype})" for dtype in ("float64", "float32")}


def test_a_dropped_state_is_found_by_chunks(monkeypatch):
    scan = S5Layer.scan

    def dropping(self, u, state=None, lengths=None, discrete=None):
        return scan(self, u, None, lengths, discrete)

    monkeypatch.setattr(S5Layer, "scan", dropping)
    failed = {check.name for check in check_paths(tiny(), SMALL).checks if not check.passed}
    assert failed == {
        f"whole against chunks of {chunk} ({dtype})"
        for chunk in (1, 3, 13)
        for dtype in ("float64", "float32")
    }


def test_weights_that_are_not_finite_fail():
    model = tiny()
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    report = check_paths(model, SMALL)
    assert not report.passed
    assert report.as_dict()["checks"][0]["difference"] is None


def test_settings_that_do_not_apply_are_refused():
    with pytest.raises(InputError, match="stock"):
        check_paths(tiny(), PathParityConfig(stock=True))
    with pytest.raises(UnsupportedError, match="diagonal_scan would run on"):
        check_paths(tiny(), PathParityConfig(backend="reference"))
