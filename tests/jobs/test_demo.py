import shutil
from importlib import import_module

import pytest

from jobs.toy import contents
from ssmith.core.errors import InputError, OutputExistsError
from ssmith.jobs import demo as demo_module
from ssmith.jobs.demo import demo
from ssmith.jobs.pilot import pilot

NAMES = ("toy-one", "toy-two")


@pytest.fixture
def shipped(shelf, tmp_path, monkeypatch):
    """Two shipped models, each with the recipe it was trained from."""
    for name in NAMES:
        shutil.copytree(shelf / "model", tmp_path / "shipped" / name)
    _ship(monkeypatch, tmp_path / "shipped")


def _ship(monkeypatch, place):
    # By import_module, for the package gives the function of that name.
    module = import_module("ssmith.artefact.locate")
    monkeypatch.setattr(module, "_embedded_root", lambda: place)


@pytest.fixture
def small(quick):
    return quick(baselines=("random",), fractions=(0.25,), refine=0)


@pytest.fixture
def no_reports(monkeypatch):
    """Spare the time to draw them."""
    monkeypatch.setattr("ssmith.jobs.pilot.frame.write_report", lambda *_: None)


def test_one_page_links_to_every_report(shipped, small, tmp_path):
    told, out = [], tmp_path / "out"
    page, receipts = demo(out, config=small, progress=lambda *said: told.append(said))
    assert page == out / "index.html"
    text = page.read_text()
    for name in NAMES:
        assert f'href="{name}/report.html"' in text
        assert (out / name / "report.html").is_file()
        assert receipts[name].model["name"] == f"embedded:{name}"
    assert told[0][0] == "toy-one: sweep"
    assert told[-1][0] == "toy-two: report"


def test_the_command_repeats_the_pilot(shipped, small, tmp_path, no_reports, shelf):
    _, receipts = demo(tmp_path / "out", names=("toy-two",), config=small)
    command = receipts["toy-two"].method["command"]
    place, data = tmp_path / "out" / "toy-two", shelf / "data.npz"
    start = ["ssmith", "pilot", "embedded:toy-two", "--data", str(data), "--out", str(place)]
    assert command[: len(start)] == start
    flags = dict(zip(command[len(start) :: 2], command[len(start) + 1 :: 2], strict=True))
    assert flags["--fractions"] == "0.25"
    assert flags["--baselines"] == "random"
    assert flags["--max-loss"] == "0.05"
    assert "--seed" not in flags


def test_names_choose_each_model_once(shipped, small, tmp_path, no_reports):
    _, receipts = demo(tmp_path / "out", names=("toy-two", "toy-two"), config=small)
    assert list(receipts) == ["toy-two"]


def test_an_unknown_name_is_refused(shipped, tmp_path):
    with pytest.raises(InputError, match="toy-three"):
        demo(tmp_path / "out", names=("toy-three",))
    assert not (tmp_path / "out").exists()


def test_a_package_without_models_says_so(monkeypatch, tmp_path):
    _ship(monkeypatch, tmp_path)
    with pytest.raises(InputError, match="no model ships"):
        demo(tmp_path / "out")


def test_nothing_is_overwritten_unasked(shipped, small, tmp_path, no_reports):
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"index\.html"):
        demo(out, config=small)
    assert contents(out) == {"index.html": b"mine"}
    (out / "notes.txt").write_text("mine too")
    demo(out, config=small, overwrite=True, names=NAMES[:1])
    assert (out / "notes.txt").read_text() == "mine too"
    assert "toy-one/report.html" in (out / "index.html").read_text()


def test_an_interrupted_demo_goes_on(shipped, small, tmp_path, no_reports, monkeypatch):
    out = tmp_path / "out"

    def stop_at_the_second(model, *args, **kwargs):
        if model.endswith(NAMES[1]):
            raise KeyboardInterrupt
        return pilot(model, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ssmith.jobs.demo.pilot", stop_at_the_second)
        demo(out, config=small)
    before = contents(out)
    with pytest.raises(OutputExistsError):
        demo(out, config=small)
    page, receipts = demo(out, config=small, resume=True)
    after = contents(out)
    assert list(receipts) == list(NAMES)
    assert {name: after[name] for name in before} == before
    assert page.is_file()


def test_by_default_one_model_is_cut_by_state_obs_as_well():
    runs = demo_module._runs(("digits-s5", "power-s4d"), None)
    assert list(runs) == ["digits-s5", "power-s4d", "digits-s5-state-obs"]
    name, settings = runs["digits-s5-state-obs"]
    assert (name, settings.method) == ("digits-s5", "state-obs")
    assert list(demo_module._runs(("power-s4d",), None)) == ["power-s4d"]
