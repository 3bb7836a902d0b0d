"""Killed at any write, a line opens as it was before or as it is after, and verifies."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import killing
from helpers.lines import Shelf
from ssmith.release.line import Line
from ssmith.release.promotion import promote
from ssmith.release.verify import verify

TESTS = Path(__file__).parents[1]
KILLS = 24


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
    draw = random.Random(0)
    changed = 0
    for kill in range(KILLS):
        known = len(Line.open(place / "line").entries())
        running = process("endless", place, kill, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        # The first word comes once everything is imported.
        first = running.stdout.readline()
        time.sleep(draw.uniform(0, 0.25))
        running.kill()
        rest, err = running.communicate()
        assert not err, err
        _, *said = json.loads((first + rest).strip().splitlines()[-1])
        line = Line.open(place / "line")
        assert (None if line.live is None else line.live.digest) in said
        found = verify(line)
        assert found.passed, found.faults
        assert {item.name for item in line.path.iterdir()} <= killing.OWN
        changed += len(line.entries()) - known
    assert changed > KILLS
