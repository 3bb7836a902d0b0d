"""The demo, as far as it goes without its pilots: its command lines, and its page."""

import importlib.util
import sys
from pathlib import Path

import pytest

from ssmith.cli.main import parser

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
