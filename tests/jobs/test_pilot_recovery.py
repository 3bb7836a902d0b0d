"""Prune, then recover: a cut model learns from its dense parent; what was cut never returns."""

import copy
import dataclasses

import pytest
import torch

from jobs.language import QUICK, trained, write_text
from jobs.toy import contents
from ssmith import api
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families import model_digest
from ssmith.families.masks import masks_of
from ssmith.families.registry import find_selective
from ssmith.jobs.pilot import pilot
from ssmith.jobs.train import save_trained
from ssmith.jobs.tuning.recovery import RecoveryConfig, from_windows, recover_
from ssmith.tune.training import starting_rate

pytest.importorskip("transformers")

RECOVER = dataclasses.replace(
    QUICK,
    sparsities=(0.5,),
    baselines=(),
    recover="state-offset-hy",
    recover_steps=4,
    recover_rate=0.02,
)


class Stopped(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """``model/``, trained, and ``squares.txt``; read only."""
    root = tmp_path_factory.mktemp("squares")
    text = write_text(root / "squares.txt")
    save_trained(trained(text), root / "model")
    return root


@pytest.fixture
def start(place, tmp_path, monkeypatch):
    """Run a pilot without its report."""
    monkeypatch.setattr("ssmith.jobs.pilot.run.write_report", lambda *_: None)

    def run(config=RECOVER, out=tmp_path / "out", **options):
        return pilot(str(place / "model"), str(place / "squares.txt"), out, config, **options)

    return run


def test_a_recovered_cut_is_measured_judged_and_still_a_cut(start, tmp_path):
    receipt = start(dataclasses.replace(RECOVER, units=("entry",), sparsities=(0.5, 0.75)))
    curve = receipt.as_dict()["details"]["curve"]
    own, recovered = curve["methods"]
    assert recovered == f"{own} + state-offset-hy" == curve["chosen"]
    assert [point["sparsity"] for point in curve["methods"][recovered]] == [0.75]
    loaded = api.load(tmp_path / "out" / "model")
    cut = {name: ~mask for name, mask, _ in masks_of(loaded)}
    assert sum(int(gone.sum()) for gone in cut.values()) == 0.75 * 2 * 24 * 4
    for name, gone in cut.items():
        assert len(loaded.get_parameter(name)[gone].unique()) == 1
    assert all(layer.mixer.state_offset.any() for layer in find_selective(loaded).values())
    assert receipt.parity.passed and receipt.parity.worst["cut_stays_cut"] == 0
    assert "offsets" in receipt.parity.why_null["engine_vs_stock"]
    done = receipt.method.recovery
    assert done["validation"]["after"]["loss"] <= done["validation"]["before"]["loss"]
    assert done["steps"] == 4
    assert len(done["held"]) == 4
    assert receipt.model.digest_after == api.inspect(loaded).digest
    ids = torch.arange(20)[None] + 97
    with torch.no_grad():
        before = loaded(input_ids=ids).logits
        for layer in find_selective(loaded).values():
            layer.mixer.state_offset.zero_()
            layer.mixer.output_offset.zero_()
        # They act wherever the model is opened: it runs on the engine from the start.
        assert not torch.allclose(before, loaded(input_ids=ids).logits)


def test_states_stay_gone_and_a_killed_recovery_goes_on(start, place, tmp_path):
    start(out=place / "whole")

    def told(stage, done, total, note=""):
        if (stage, done) == ("tune", 3):
            raise Stopped

    with pytest.raises(Stopped):
        start(progress=told)
    resumed = start(resume=True)
    found, expected = contents(tmp_path / "out"), contents(place / "whole")
    for name in ("stages/recover-0.5.json", "model/model.safetensors", "model/ssmith.safetensors"):
        assert found[name] == expected[name], name
    assert resumed.as_dict()["details"]["curve"]["point"]["recovered"] is True
    layers = find_selective(api.load(tmp_path / "out" / "model"))
    assert {layer.n for layer in layers.values()} == {2}


def test_what_merges_leaves_a_model_for_stock_code(start, tmp_path):
    receipt = start(dataclasses.replace(RECOVER, recover="lora:in_proj"))
    assert receipt.parity.worst["engine_vs_stock"] is not None
    assert not (tmp_path / "out" / "model" / "offsets.safetensors").exists()
    assert receipt.method.recovery["held"] == []


@pytest.mark.parametrize(("moved", "shares"), [(0.3, 1), (0.02, 2), (0.005, 3), (0.0, 3)])
def test_rates_that_harm_are_lowered_until_one_helps(place, tmp_path, moved, shares):
    """The less a cut took, the lower the rate that gives it back; of nothing lost nothing is."""
    dense, text = api.load(place / "model"), api.load_text(place / "squares.txt")
    windows = (text.sample(16, 32, seed=0), text.windows(32, split="validation").spread(4))
    config = RecoveryConfig(steps=8, batch_size=4)
    checkpoint = tmp_path / "recover.safetensors"

    def recovered():
        cut = copy.deepcopy(dense)
        with torch.no_grad():
            for layer in find_selective(cut).values():
                layer.mixer.out_proj.weight.mul_(1 + moved)
        learned = from_windows(dense, windows, config)
        return cut, recover_(cut, dense, learned, config, checkpoint=checkpoint)

    cut, done = recovered()
    assert done.shares == (1, 1 / 8, 1 / 64)[:shares]
    usual = starting_rate("state-offset-h", optimizer="muon", steps=8).value
    assert done.rates["state-offset-h"].value == usual * done.shares[-1]
    assert ("did not help" in done.rates["state-offset-h"].source) == (shares > 1)
    losses = [done.validation[when]["loss"] for when in ("before", "after")]
    assert (losses[1] < losses[0]) == (done.best_step > 0) == (moved > 0)
    # Once more from what was kept: not a step is made, and the same comes of it.
    again, same = recovered()
    assert same == done and model_digest(again) == model_digest(cut)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"recover": "state-offset"}, InputError, "state-offset-h"),
        ({"recover_steps": 0}, InputError, "steps is 0"),
        ({"distill_weight": 1.5}, InputError, "distill_weight is 1.5"),
        ({"recover": "lora:nowhere"}, InputError, "nowhere"),
        ({"recover": "initial-state"}, UnsupportedError, "cannot be merged"),
    ],
)
def test_what_cannot_recover_is_refused_before_the_first_file(
    start, tmp_path, change, error, words
):
    with pytest.raises(error, match=words):
        start(dataclasses.replace(RECOVER, **change))
    assert not (tmp_path / "out").exists()
