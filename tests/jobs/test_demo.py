import dataclasses
import shutil
from importlib import import_module

import pytest

from jobs.language import QUICK as QUICK_TEXT
from jobs.language import trained, write_text
from jobs.toy import contents
from ssmith.core.errors import InputError, OutputExistsError
from ssmith.data import ExamplesConfig
from ssmith.jobs import demo as demo_module
from ssmith.jobs.compare import CompareConfig
from ssmith.jobs.demo import demo
from ssmith.jobs.demo_language import LanguageDemo
from ssmith.jobs.pilot import pilot
from ssmith.jobs.source import RowsConfig
from ssmith.jobs.train import save_trained
from ssmith.tune.training import TrainingConfig

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


@pytest.fixture
def squares(tmp_path, monkeypatch):
    """A shipped language model, and what a demo of a second does with it."""
    pytest.importorskip("transformers")
    text = write_text(tmp_path / "squares.txt")
    place = tmp_path / "shipped" / "squares"
    save_trained(trained(text), place)
    _ship(monkeypatch, tmp_path / "shipped")
    other = tmp_path / "prose.txt"
    other.write_text("Nothing here is a number, and nothing is squared.\n" * 60)
    settings = dataclasses.replace(QUICK_TEXT, fractions=(0.5,), baselines=())
    return LanguageDemo(
        entries=dataclasses.replace(
            settings, cut="a_log", method="sparsessm", compensate=False, baselines=("magnitude",)
        ),
        columns=dataclasses.replace(settings, recover="state-offset-hy", recover_steps=2),
        domain=str(other),
        examples=ExamplesConfig(length=32, held_out=4),
        training=TrainingConfig(steps=4, batch_size=4, evaluate_every=2, rate=1e-2),
        compared=CompareConfig(rows=RowsConfig(length=32, windows=4), speed_seconds=0.001),
    )


def test_a_language_model_is_cut_adapted_and_compared(squares, tmp_path):
    out, steps = tmp_path / "out", ("entries", "columns", "adapted", "on-prose", "on-squares")
    page, receipts = demo(out, language=squares)
    assert list(receipts) == [f"squares-{step}" for step in steps]
    text = page.read_text()
    for name, receipt in receipts.items():
        assert (out / name / "report.html").is_file()
        assert f'href="{name}/report.html"' in text
        assert receipt.method["command"][0] == "ssmith"
    assert "--no-compensate" in receipts["squares-entries"].method["command"]
    adapted = receipts["squares-adapted"]
    assert adapted.model["name"] == str(out / "squares-columns" / "model")
    assert adapted.data["counts"]["test"] == 4
    whole = receipts["squares-on-prose"]
    assert whole.quality["count"] == 4
    # An adapter is nothing without its base.
    base = out / "squares-columns" / "model" / "model.safetensors"
    assert whole.size["bytes"]["after"] > base.stat().st_size


def test_a_demo_of_a_language_model_goes_on(squares, tmp_path):
    out = tmp_path / "out"

    def stop(stage, done, total, note=""):
        if stage.startswith("squares-on"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo(out, language=squares, progress=stop)
    before = contents(out / "squares-adapted")
    demo(out, language=squares, resume=True)
    assert contents(out / "squares-adapted") == before


def test_a_text_the_model_knows_is_nothing_to_adapt_to(squares, tmp_path):
    same = dataclasses.replace(squares, domain=str(tmp_path / "squares.txt"))
    with pytest.raises(InputError, match="knows"):
        demo(tmp_path / "out", language=same)
