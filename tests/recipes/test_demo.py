"""The demo, as far as it goes without its pilots: its command lines, and its page."""

import importlib.util
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import ssmith as sm
from ssmith.cli.main import main, parser

PLACE = Path(__file__).parents[2] / "recipes" / "demo.py"


@pytest.fixture
def demo():
    spec = importlib.util.spec_from_file_location("demo", PLACE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_step_is_a_command_line_that_is_understood(demo):
    for step in demo.STEPS:
        arguments = parser().parse_args(demo.command(step, Path("there")))
        assert arguments.out == Path("there") / step
        assert arguments.overwrite


def test_steps_run_in_order_until_one_fails(demo, tmp_path, monkeypatch, capsys):
    ran = []

    def run(words):
        ran.append(words[0])
        return 2 if words[0] == "tune" else 1

    monkeypatch.setattr(demo, "ssmith", run)
    monkeypatch.setattr(sys, "argv", ["demo.py", "--out", str(tmp_path)])
    assert demo.main() == 2
    assert ran == [*["pilot"] * 6, "tune"]
    assert f"--out {tmp_path / 'digits-s5'} --overwrite" in capsys.readouterr().out
    assert not (tmp_path / "index.html").exists()


def test_every_step_of_the_line_is_a_command_line_that_is_understood(demo, tmp_path):
    versions = {name: "sha256:" + letter * 64 for name, letter in
                (("first", "a"), ("second", "b"), ("third", "c"))}  # fmt: skip
    line = str(tmp_path / "line")
    for text in demo.LINE:
        words = shlex.split(text.format(line=line, out=tmp_path, **versions))
        assert str(parser().parse_args(words).line).startswith(line) or words[0] == "dashboard"


def test_the_line_is_played_in_order_and_begins_anew(demo, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(demo, "LINE", ("release init {line}", "watch {line} --data x", "x {line}"))
    monkeypatch.setattr(demo, "write_stream", lambda path: None)

    def run(words):
        ran.append(words[0])
        return main(words) if words[0] == "release" else {"watch": 1, "x": 2}[words[0]]

    monkeypatch.setattr(demo, "ssmith", run)
    for _ in range(2):
        assert demo.play_line(tmp_path) == 2
    assert ran == ["release", "watch", "x"] * 2


def test_the_worse_camera_shows_the_same_digits_otherwise(demo, tmp_path):
    demo.write_stream(tmp_path / "stream.npz")
    test = sm.load_data("embedded:digits", sm.load("embedded:digits-s5")).split("test")
    with np.load(tmp_path / "stream.npz") as stream:
        assert np.array_equal(stream["y"], test.y.numpy())
        gone = stream["x"] - (0.7 * test.x.numpy() + 0.15)
    assert abs(gone.mean()) < 0.01
    assert abs(gone.std() - 0.1) < 0.01
