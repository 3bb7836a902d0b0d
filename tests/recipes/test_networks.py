"""Four networks of other makes go from data to a smaller one, opened again and piloted."""

import importlib
import sys

import pytest

from helpers.pages import ROOT

FOLDER = ROOT / "recipes" / "networks"
CUT = {
    "vision": {"state": 0.5, "entry": 0.25},
    "sensor": {"state": 0.5, "entry": 0.25, "weight": 0.5},
    "labeller": {"state": 0.25, "entry": 0.25, "weight": 0.3},
    "unet": {"state": 0.5},
}


@pytest.fixture
def network(request, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("shared", request.param):
        sys.modules.pop(name, None)
    return importlib.import_module(request.param)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", CUT, indirect=True)
def test_a_network_is_cut_saved_opened_and_piloted(network, tmp_path):
    found = network.main(3, tmp_path)
    for unit, share in CUT[network.__name__].items():
        removed = found["removed"][unit]
        # Each weight is rounded by itself.
        rounding = 20 if unit == "weight" else 0
        assert abs(removed.after - removed.before * (1 - share)) <= rounding, unit
    assert (tmp_path / "pilot" / "report.html").is_file()
    assert found["pilot"].quality.metric == network.TASK.metric.name
    assert found["comparison"].before.count > 50
