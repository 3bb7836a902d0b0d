"""Killed in one number of processes, gone on with in another: the same bytes, or refused by key."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
SCRIPT = Path(__file__).with_name("in_groups.py")
WAYS = ("1 2", "2 1")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("groups"))],
        capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", WAYS)
def test_pruning_goes_on_in_any_number_of_processes_with_the_same_bytes(found, way):
    ended = found[f"prune {way}"]
    assert ended["code"] == 0, ended["said"]
    assert ended["left"] == found["prune undisturbed"]["left"]
    assert "model.safetensors" in ended["left"]


@pytest.mark.parametrize("way", WAYS)
def test_tuning_in_another_number_of_processes_is_refused_by_the_key(found, way):
    ended = found[f"tune {way}"]
    was, now = way.split()
    assert ended["code"] == 2, ended["said"]
    assert f"processes was {was} and is {now}" in ended["said"]
    assert ended["left"] == {}
