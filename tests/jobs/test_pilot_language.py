"""The pilot on a language model: it chooses, proves, judges, and goes on where it was killed."""

import dataclasses
import json

import pytest

from helpers.tiny_mamba import tiny
from jobs.language import QUICK, trained, write_text
from jobs.toy import contents
from ssmith import api
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.jobs.pilot import pilot
from ssmith.jobs.train import save_trained

pytest.importorskip("transformers")


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
    """Run a pilot; its report is drawn only if asked for."""

    def run(config=QUICK, *, report=False, model=None, **options):
        if not report:
            monkeypatch.setattr("ssmith.jobs.pilot.frame.write_report", lambda *_: None)
        given = (str(model or place / "model"), str(place / "squares.txt"), tmp_path / "out")
        return pilot(*given, config, **options)

    return run


def test_the_largest_cut_within_tolerance_is_made_and_proven(start, place, tmp_path):
    receipt = start(report=True)
    out = tmp_path / "out"
    assert receipt.removed["columns"] == {"before": 8, "after": 4, "fraction": 0.5}
    assert receipt.parity["passed"] is True
    assert receipt.parity["saved_vs_loaded"] == 0
    assert receipt.details["curve"]["chosen"]["fraction"] == 0.5
    assert set(receipt.details["curve"]["methods"]) == {"Greedy after refit", "Random"}
    assert receipt.method["mode"] == "shrink"
    # The numbers of the receipt are those of the model it left.
    dense, pruned = (api.load(path) for path in (receipt.model["name"], out / "model"))
    windows = QUICK.text("test").cut(api.load_text(place / "squares.txt", dense))
    found = api.compare(dense, pruned, windows)
    assert receipt.quality["loss"]["value"] == pytest.approx(found.change.value)
    assert receipt.quality["count"] == 6
    assert (out / "report.html").is_file()
    assert all(check.passed for check in api.verify(out / "model"))
    assert api.inspect(pruned).digest == receipt.model["digest_after"]


def test_entries_are_masked_and_bring_no_gain(start):
    receipt = start(dataclasses.replace(QUICK, cut="a_log", baselines=("magnitude",)))
    assert receipt.method["mode"] == "mask"
    assert receipt.removed["entries"]["fraction"] == 0.5
    gates = {item["gate"]: item["passed"] for item in receipt.verdict["reasons"]}
    assert gates["quality"] and gates["parity"]


@pytest.mark.parametrize(
    ("cut", "group", "methods"),
    [
        ("projections", None, {"OBS on projections", "Wanda on projections"}),
        ("projections", 4, {"OBS on projections", "Wanda on projections"}),
        (
            "whole",
            None,
            {"Gram greedy, OBS on projections", "SparseSSM v2, OBS, as published on projections"},
        ),
        ("a_log", 4, {"Gram greedy", "SparseSSM v2"}),
    ],
)
def test_weights_are_cut_and_stay_cut(start, tmp_path, cut, group, methods):
    beside = "wanda" if cut == "projections" else "sparsessm"
    config = dataclasses.replace(QUICK, cut=cut, group=group, fractions=(0.5,), baselines=(beside,))
    sizes = {"hidden_size": 16, "state_size": 4, "time_step_rank": 4}
    tiny("mamba", vocab_size=256, **sizes).save_pretrained(tmp_path / "model")
    receipt = start(config, model=tmp_path / "model")
    assert set(receipt.details["curve"]["methods"]) == methods
    assert receipt.method["mode"] == "mask"
    assert receipt.parity["cut_stays_cut"] == 0
    left = {unit: facts["fraction"] for unit, facts in receipt.removed.items()}
    units = {"projections": {"projections"}, "whole": {"entries", "projections"}}
    assert set(left) == units.get(cut, {"entries"})
    # conv1d takes no pattern of 4 neighbours and stays whole; the total is less than half then.
    assert left == pytest.approx(dict.fromkeys(left, 0.5), abs=0.05 if group else 1e-3)
    pruned = api.load(tmp_path / "out" / "model")
    weights = dict(pruned.named_parameters())
    found = [item for item in receipt.details["layers"] if item["name"] in weights]
    assert len(found) == (0 if cut == "a_log" else 8)
    for item in found:
        assert int((weights[item["name"]] != 0).sum()) == item["after"]
        if group:
            groups = weights[item["name"]].unflatten(-1, (-1, group))
            assert ((groups != 0).sum(-1) == 2).all()


def test_nothing_is_cut_where_nothing_fits(start, tmp_path):
    receipt = start(dataclasses.replace(QUICK, method="random", baselines=(), max_loss=0.0))
    values = [item["value"] for item in receipt.details["curve"]["methods"]["Random"]]
    if min(values) > receipt.details["curve"]["dense"]["value"]:
        assert receipt.verdict["accepted"] is False
        assert not (tmp_path / "out" / "model").exists()


def test_killed_and_resumed_ends_the_same(start, tmp_path):
    for at in (("sweep", 3), ("cut", 1), ("parity", 1)):

        def told(stage, done, total, note="", at=at):
            if (stage, done) == at:
                raise Stopped

        with pytest.raises(Stopped):
            start(progress=told, resume=True)
    resumed = start(resume=True)
    found = contents(tmp_path / "out")
    again = start(overwrite=True)
    expected = contents(tmp_path / "out")
    assert set(found) == set(expected)
    for name in found:
        if name not in ("receipt.json", "stages/measured.json"):
            assert found[name] == expected[name], name
    assert resumed.quality == again.quality
    assert resumed.removed == again.removed
    assert resumed.details == again.details


def test_a_sweep_tells_how_far_it_is_within_a_point_too(start):
    told = []
    start(progress=lambda *said: told.append(said[:3]))
    far = [done for stage, done, _ in told if stage == "sweep"]
    assert far == sorted(far)
    assert any(0 < done < 1 for done in far)
    assert far[-1] == next(total for stage, _, total in told if stage == "sweep")
    assert any(0 < done < 1 for stage, done, _ in told if stage == "cut")


def test_other_settings_do_not_go_on(start):
    start()
    with pytest.raises(InputError, match="another config"):
        start(dataclasses.replace(QUICK, seed=1), resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cut": "heads"}, "cut is 'heads'"),
        ({"fractions": ()}, "fractions is empty"),
        ({"fractions": (1.0,)}, "fractions is 1"),
        ({"samples": 0}, "samples is 0"),
        ({"max_loss": -0.1}, "max_loss is -0.1"),
        ({"method": "best"}, "best"),
        ({"method": "sparsessm"}, "not defined for columns"),
        ({"group": 4}, "group goes with columns"),
        ({"cut": "a_log", "group": 1}, "group is 1"),
        ({"cut": "a_log", "group": 4, "fractions": (0.3,)}, "0.3 of groups of 4"),
        ({"cut": "projections", "method": "output-energy"}, "output-energy"),
    ],
)
def test_settings_outside_their_domain_are_refused(change, words):
    with pytest.raises(Exception, match=words):
        dataclasses.replace(QUICK, **change)


def test_mamba_2_is_refused_before_the_first_file(tmp_path, place):
    tiny("mamba2", vocab_size=256).save_pretrained(tmp_path / "mamba2")
    with pytest.raises(UnsupportedError, match="one number per head"):
        pilot(str(tmp_path / "mamba2"), str(place / "squares.txt"), tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()


def test_stages_are_files(start, tmp_path):
    start()
    stages = {item.stem for item in (tmp_path / "out" / "stages").iterdir()}
    assert stages == {
        "run", "baseline", "sweep-auto-0.25", "sweep-auto-0.5", "sweep-random-0.25",
        "sweep-random-0.5", "measured",
    }  # fmt: skip
    run = json.loads((tmp_path / "out" / "stages" / "run.json").read_text())
    assert run["identity"]["data"]["calibration"]["windows"] == 4
