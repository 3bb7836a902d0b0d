"""Killed in one number of processes, gone on with in another: the same bytes, or refused by key."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")
from jobs.in_groups import PRUNE, left, made

SCRIPT = Path(__file__).with_name("in_groups.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("groups"))],
        capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("way", ["prune 1 2", "prune 2 1", "prune 2 2", "hybrid 2 1"])
def test_pruning_goes_on_in_any_number_of_processes_with_the_same_bytes(found, way):
    ended, job = found[way], way.split()[0]
    assert ended["code"] == 0, ended["said"]
    assert ended["left"] == found[f"{job} undisturbed 1"]["left"]
    assert ended["left"] == found[f"{job} undisturbed 2"]["left"]
    assert "model.safetensors" in ended["left"]


def test_torchrun_itself_ends_with_the_bytes_of_one(found, tmp_path):
    """What the forks of the program above stand for: the command that the page shows."""
    place = made(tmp_path, "prune")
    # As torchrun, wherever its script lies.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "ssmith", *PRUNE.split()], cwd=place, capture_output=True, text=True,
        check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert left(place) == found["prune undisturbed 1"]["left"]


@pytest.mark.parametrize("way", ["1 2", "2 1"])
def test_tuning_in_another_number_of_processes_is_refused_by_the_key(found, way):
    ended = found[f"tune {way}"]
    was, now = way.split()
    assert ended["code"] == 2, ended["said"]
    assert f"processes was {was} and is {now}" in ended["said"]
    assert ended["left"] == {}


@pytest.mark.parametrize("count", [1, 2])
def test_tuning_in_as_many_processes_goes_on_with_the_same_bytes(found, count):
    ended = found[f"tune {count} {count}"]
    assert ended["code"] == 0, ended["said"]
    assert ended["left"] == found[f"tune undisturbed {count}"]["left"]
    assert "adapter_model.safetensors" in ended["left"]


def test_two_processes_learn_what_one_of_their_size_does(found):
    assert found["two beside one of their size"] < 1e-5
