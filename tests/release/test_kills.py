"""Killed at any write, a line opens as it was before or as it is after, and verifies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import killing
from helpers.lines import Shelf
from ssmith.release.promotion import promote

TESTS = Path(__file__).parents[1]
KILLS, LONGEST = 24, 0.1


def process(*words, **more):
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, killing.__file__, *map(str, words)]
    return subprocess.Popen(command, env=environment, text=True, **more)


@pytest.fixture
def place(tmp_path):
    # By the machine's own clock, as the processes that are killed.
    shelf = Shelf(tmp_path / "place", clock=None)
    versions = [shelf.add(text) for text in ("one", "two", "three")]
    for version in versions[:2]:
        promote(shelf.line, version)
    return shelf.place


def test_what_the_documentation_says_of_many_kills_is_stored():
    root = TESTS.parent
    stored = json.loads((root / "benchmarks" / "results" / "release_kills.json").read_text())
    found = stored["summary"]
    page = (root / "docs" / "how-to" / "release.md").read_text(encoding="utf-8")
    assert found["kills"] == found["opened_as_before_or_after"] == found["verified"] >= 200
    assert found["leaked"] == 0
    assert f"{found['kills']} random moments, {found['killed_mid_write']} of them" in page


@pytest.mark.parametrize("action", ["add", "promote", "rollback"])
def test_killed_at_every_write_in_turn(place, action):
    running = process("counted", place, action, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    found = json.loads(out)
    # Both ends are reached: some writes are before the change, some after.
    assert found["before"] > 3
    assert found["after"] > 1
    assert found["before"] + found["after"] == found["writes"]


def test_killed_at_every_write_of_a_beginning(tmp_path):
    running = process("counted", tmp_path, "init", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert json.loads(out)["writes"] > 8


def test_killed_at_random_moments(place):
    running = process(
        "random", place, KILLS, LONGEST, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    found = json.loads(out)
    assert len(found) == KILLS
    assert all(row["opens_as_before_or_after"] and row["verifies"] for row in found)
    assert not [row["leaks"] for row in found if row["leaks"]]
    assert sum(row["entries"] for row in found) > KILLS
