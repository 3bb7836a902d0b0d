"""Prune, then recover, on models of series: smaller as before, and learned from the dense one."""

import dataclasses

import pytest

from jobs.toy import QUICK
from ssmith import api
from ssmith.core.errors import UnsupportedError
from ssmith.jobs.pilot import pilot

pytest.importorskip("transformers")

RECOVER = dataclasses.replace(
    QUICK,
    baselines=(),
    sparsities=(0.75, 0.95),
    refine=0,
    recover="full",
    recover_steps=12,
    recover_rate=0.01,
)


@pytest.fixture
def start(shelf, tmp_path, monkeypatch):
    """Run a pilot without its report."""
    monkeypatch.setattr("ssmith.jobs.pilot.run.write_report", lambda *_: None)

    def run(config=RECOVER):
        return pilot(str(shelf / "model"), str(shelf / "data.npz"), tmp_path / "out", config)

    return run


def test_a_recovered_cut_is_proven_and_judged_like_any_other(start, shelf, tmp_path):
    receipt = start()
    curve = receipt.as_dict()["details"]["curve"]
    recovered = {p["sparsity"]: p for p in curve["methods"]["LAST + full"]}
    plain = {p["sparsity"]: p for p in curve["methods"]["LAST"]}
    for point in recovered.values():
        losses = [point["validation"][when]["loss"] for when in ("before", "after")]
        assert losses[1] <= losses[0]
    assert recovered[0.95]["value"] > plain[0.95]["value"]
    assert curve["chosen"] == "LAST + full"
    assert curve["point"] == recovered[curve["point"]["sparsity"]]
    loaded = api.load(tmp_path / "out" / "model")
    found = api.inspect(loaded)
    assert found.digest == receipt.model.digest_after
    assert sum(map(int, loaded.config.states)) == receipt.removed["state"].after
    assert receipt.parity.passed
    assert {"shrunk_vs_masked", "step_vs_scan", "saved_vs_loaded"} <= set(receipt.parity.worst)
    part = api.load_data(shelf / "data.npz", loaded).split("test")
    assert receipt.quality.after.value == api.evaluate(loaded, part).value
    assert receipt.method.recovery["held"] == []


def test_what_has_no_place_in_the_model_is_refused_before_the_first_file(start, tmp_path):
    with pytest.raises(UnsupportedError, match="no bias"):
        start(dataclasses.replace(RECOVER, recover="state-offset-y"))
    assert not (tmp_path / "out").exists()
