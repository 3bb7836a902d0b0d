"""Tuning killed and gone on with, and shared by two processes: the same weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("transformers")
SCRIPT = Path(__file__).with_name("run_tuning.py")


def run(*arguments, launcher=()):
    command = [sys.executable, *launcher, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights of a run nobody disturbed."""
    place = tmp_path_factory.mktemp("whole")
    done = run(place / "kept", place / "out")
    assert done.returncode == 0, done.stderr
    return place / "out"


def test_killed_and_gone_on_with_ends_in_the_same_bytes(whole, tmp_path):
    done = run(tmp_path / "kept", tmp_path / "out", 7)
    assert done.returncode == -9
    curve = json.loads((tmp_path / "kept" / "last.safetensors.curve.json").read_text())
    assert curve["steps_done"] == 6
    assert not (tmp_path / "out").exists()
    done = run(tmp_path / "kept", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == whole.read_bytes()


def test_two_processes_learn_what_one_does(whole, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = run(tmp_path / "kept", tmp_path / "out", launcher=launcher)
    assert done.returncode == 0, done.stderr
    found, wanted = load_file(tmp_path / "out"), load_file(whole)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, rtol=0, atol=1e-5), name
