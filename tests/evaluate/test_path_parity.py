"""Parity of paths: what our engine holds, and what it finds in stock code."""

import pytest
import torch

from helpers.tiny_mamba import NAMES, tiny
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.evaluate.path_checks import PathParityConfig
from ssmith.evaluate.path_parity import check_paths

pytest.importorskip("transformers")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_path_agrees_under_the_engine(name, dtype):
    model = tiny(name, dtype=dtype)
    kinds = [type(part) for part in model.modules()]
    report = check_paths(model)
    assert report.passed, report.worst
    assert len(report.checks) >= 7
    assert report.paths
    assert [type(part) for part in model.modules()] == kinds


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_stock_code_drops_the_state_and_spoils_the_cache(name):
    report = check_paths(tiny(name), PathParityConfig(stock=True))
    failed = {check.name for check in report.checks if not check.passed}
    assert {"whole against chunks of 13", "padded on the right against alone"} <= failed
    assert "padded on the left against alone" not in failed
    assert not report.passed
    assert report.paths == ()


def test_the_report_is_ready_for_json():
    report = check_paths(tiny("mamba"), PathParityConfig(chunks=(5,), length=16)).as_dict()
    assert report["passed"] is True
    assert {check["name"] for check in report["checks"]} >= {"whole against chunks of 5"}
    assert {path["op"] for path in report["paths"]} >= {"selective_scan"}


def test_a_broken_model_fails_instead_of_passing_quietly():
    model = tiny("mamba")
    with torch.no_grad():
        model.backbone.layers[0].mixer.D[0] = torch.nan
    report = check_paths(model)
    assert not report.passed
    assert report.as_dict()["checks"][0]["difference"] is None


def test_wrong_settings_and_models_are_refused():
    with pytest.raises(InputError, match="length 3"):
        PathParityConfig(length=3)
    with pytest.raises(InputError, match="chunks"):
        PathParityConfig(chunks=(0,))
    with pytest.raises(InputError, match="stock code"):
        PathParityConfig(stock=True, backend="native")
    with pytest.raises(UnsupportedError):
        check_paths(torch.nn.Linear(2, 2))


def test_a_path_can_be_required():
    model = tiny("mamba")
    ran = {path["op"]: path["backend"] for path in check_paths(model).paths}["selective_scan"]
    assert check_paths(model, PathParityConfig(backend=ran, length=16)).passed
    with pytest.raises(UnsupportedError, match="selective_scan would run on"):
        check_paths(model, PathParityConfig(backend="reference"))
    with pytest.raises(InputError, match="'warp'"):
        check_paths(model, PathParityConfig(backend="warp"))
    with pytest.raises(UnsupportedError, match="ssd would run on"):
        check_paths(tiny("mamba2"), PathParityConfig(backend="native"))


def test_rounding_may_add_up_over_layers_and_no_further():
    report = check_paths(tiny("mamba", num_hidden_layers=3), PathParityConfig(length=16))
    assert {round(check.tolerance, 8) for check in report.checks} == {6e-5, 5e-2}
