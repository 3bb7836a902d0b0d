"""The pilot on a language model: it chooses, proves, judges, and goes on where it was killed."""

import dataclasses
import json

import pytest
import torch

from helpers.every_unit import build
from helpers.tiny_mamba import tiny
from jobs.language import QUICK, trained, write_text
from jobs.toy import contents
from ssmith import api
from ssmith.core.errors import ArtefactError, InputError, SsmithError, UnsupportedError
from ssmith.core.sections import UnitRemoved
from ssmith.families import ssm_sites
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
            monkeypatch.setattr("ssmith.jobs.pilot.run.write_report", lambda *_: None)
        given = (str(model or place / "model"), str(place / "squares.txt"), tmp_path / "out")
        return pilot(*given, config, **options)

    return run


def test_the_largest_cut_within_tolerance_is_made_and_proven(start, place, tmp_path):
    receipt = start(report=True)
    out = tmp_path / "out"
    assert receipt.removed["state"] == UnitRemoved(before=8, after=4, fraction=0.5)
    assert receipt.parity.passed is True
    assert receipt.parity.worst["saved_vs_loaded"] == 0
    assert receipt.as_dict()["details"]["curve"]["point"]["sparsity"] == 0.5
    assert set(receipt.as_dict()["details"]["curve"]["methods"]) == {"Greedy after refit", "Random"}
    assert receipt.method.mode == "shrink"
    # The numbers of the receipt are those of the model it left.
    dense, pruned = (api.load(path) for path in (receipt.model.name, out / "model"))
    windows = QUICK.rows("test").cut(api.load_text(place / "squares.txt", dense))
    found = api.compare(dense, pruned, windows)
    assert receipt.quality.loss.value == pytest.approx(found.change.value)
    assert receipt.quality.count == 6
    assert (out / "report.html").is_file()
    assert all(check.passed for check in api.verify(out / "model"))
    assert api.inspect(pruned).digest == receipt.model.digest_after


def test_entries_are_masked_and_bring_no_gain(start):
    receipt = start(dataclasses.replace(QUICK, units=("entry",), baselines=("magnitude",)))
    assert receipt.method.mode == "mask"
    assert receipt.removed["entry"].fraction == 0.5
    gates = {item["gate"]: item["passed"] for item in receipt.as_dict()["verdict"]["reasons"]}
    assert gates["quality"] and gates["parity"]


@pytest.mark.parametrize(
    ("cut", "group", "methods"),
    [
        (("weight",), None, {"OBS on weights", "Wanda on weights"}),
        (("weight",), 4, {"OBS on weights", "Wanda on weights"}),
        (
            ("entry", "weight"),
            None,
            {"Gram greedy, OBS on weights", "SparseSSM v2, OBS, as published on weights"},
        ),
        (("entry",), 4, {"Gram greedy", "SparseSSM v2"}),
    ],
)
def test_weights_are_cut_and_stay_cut(start, tmp_path, cut, group, methods):
    beside = "wanda" if cut == ("weight",) else "sparsessm"
    config = dataclasses.replace(
        QUICK, units=cut, group=group, sparsities=(0.5,), baselines=(beside,)
    )
    sizes = {"hidden_size": 16, "state_size": 4, "time_step_rank": 4}
    tiny("mamba", vocab_size=256, **sizes).save_pretrained(tmp_path / "model")
    receipt = start(config, model=tmp_path / "model")
    assert set(receipt.as_dict()["details"]["curve"]["methods"]) == methods
    assert receipt.method.mode == "mask"
    assert receipt.parity.worst["cut_stays_cut"] == 0
    left = {unit: facts.fraction for unit, facts in receipt.removed.items()}
    units = {("weight",): {"weight"}, ("entry", "weight"): {"entry", "weight"}}
    assert set(left) == units.get(cut, {"entry"})
    # conv1d stays whole: without a pattern the other projections, which count, lose as much more.
    assert left == pytest.approx(dict.fromkeys(left, 0.5), abs=0.05 if group else 0.001)
    pruned = api.load(tmp_path / "out" / "model")
    weights = dict(pruned.named_parameters())
    found = [item for item in receipt.as_dict()["details"]["layers"] if item["name"] in weights]
    assert len(found) == (0 if cut == ("entry",) else 10)
    for item in found:
        assert int((weights[item["name"]] != 0).sum()) == item["after"]
        assert (item["after"] == item["before"]) == ("conv1d" in item["name"])
        if group and item["after"] < item["before"]:
            groups = weights[item["name"]].unflatten(-1, (-1, group))
            assert ((groups != 0).sum(-1) == 2).all()


def test_nothing_is_cut_where_nothing_fits(start, tmp_path):
    receipt = start(dataclasses.replace(QUICK, method="random", baselines=(), max_loss=0.0))
    values = [item["value"] for item in receipt.as_dict()["details"]["curve"]["methods"]["Random"]]
    if min(values) > receipt.as_dict()["details"]["curve"]["dense"]["value"]:
        assert receipt.verdict.accepted is False
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
        if name not in ("receipt.json", "stages/measured.json", "manifest.json"):
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
    with pytest.raises(ArtefactError, match=r"settings or data: config\."):
        start(dataclasses.replace(QUICK, seed=1), resume=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"units": ("heads",)}, "unit is 'heads'"),
        ({"units": ("state", "weight")}, "units are state, weight"),
        ({"sparsities": ()}, "sparsities is empty"),
        ({"sparsities": (1.0,)}, "a sparsity is 1"),
        ({"samples": 0}, "samples is 0"),
        ({"max_loss": -0.1}, "max_loss is -0.1"),
        ({"units": ("entry",), "group": 1}, "group is 1"),
    ],
)
def test_settings_outside_their_domain_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(QUICK, **change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "best"}, "best"),
        ({"method": "sparsessm"}, "sparsessm"),
        ({"group": 4}, "group goes with state"),
        ({"units": ("entry",), "group": 4, "sparsities": (0.3,)}, "0.3 of groups of 4"),
        ({"units": ("weight",), "method": "output-energy"}, "output-energy"),
        ({"own_metric": "numpy:dot"}, "own_metric is for models of classes"),
    ],
)
def test_what_the_model_has_not_is_refused_before_the_first_file(start, tmp_path, change, words):
    with pytest.raises(SsmithError, match=words):
        start(dataclasses.replace(QUICK, **change))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("unit", "shares"), [("expert", (0.25, 0.5)), ("neuron", (0.5,))])
def test_units_of_a_hybrid_are_cut_too(tmp_path, place, unit, shares):
    model = build("granitemoehybrid", torch.float32, vocab_size=256)
    model.save_pretrained(tmp_path / "hybrid")
    config = dataclasses.replace(
        QUICK, units=(unit,), target="stock", sparsities=None if len(shares) > 1 else shares
    )
    done = pilot(str(tmp_path / "hybrid"), str(place / "squares.txt"), tmp_path / "out", config)
    assert done.removed[unit].after < done.removed[unit].before
    assert done.parity.passed
    stages = (tmp_path / "out" / "stages").glob("sweep-auto-*.json")
    assert {float(path.stem.removeprefix("sweep-auto-")) for path in stages} == set(shares)


def test_what_the_target_does_not_open_is_refused_before_the_first_file(tmp_path, place):
    model = build("granitemoehybrid", torch.float32, vocab_size=256)
    model.save_pretrained(tmp_path / "hybrid")
    config = dataclasses.replace(QUICK, units=("head_dim",), target="stock", sparsities=(0.25,))
    with pytest.raises(UnsupportedError, match="stock would not open the result"):
        pilot(str(tmp_path / "hybrid"), str(place / "squares.txt"), tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("unit", ["entry", "weight"])
def test_what_mamba_2_has_not_is_refused_before_the_first_file(tmp_path, place, unit):
    tiny("mamba2", vocab_size=256).save_pretrained(tmp_path / "mamba2")
    config = dataclasses.replace(QUICK, units=(unit,))
    with pytest.raises(UnsupportedError, match=f"has no {unit} that can be cut"):
        pilot(str(tmp_path / "mamba2"), str(place / "squares.txt"), tmp_path / "out", config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["auto", "balanced"])
def test_a_pilot_cuts_the_states_of_mamba_2(tmp_path, place, method):
    tiny("mamba2", vocab_size=256, state_size=8).save_pretrained(tmp_path / "mamba2")
    config = dataclasses.replace(QUICK, method=method, sparsities=(0.5,))
    done = pilot(str(tmp_path / "mamba2"), str(place / "squares.txt"), tmp_path / "out", config)
    assert done.removed["state"].after * 2 == done.removed["state"].before
    assert done.parity.passed
    loaded = api.load(tmp_path / "out" / "model")
    assert {site.view().n for site in ssm_sites(loaded).values()} == {4}


def test_stages_are_files(start, tmp_path):
    start()
    stages = {item.stem for item in (tmp_path / "out" / "stages").iterdir()}
    assert stages == {
        "run", "baseline", "sweep-auto-0.25", "sweep-auto-0.5", "sweep-random-0.25",
        "sweep-random-0.5", "measured",
    }  # fmt: skip
    run = json.loads((tmp_path / "out" / "stages" / "run.json").read_text())
    assert run["identity"]["data"]["calibration"]["windows"] == 4
