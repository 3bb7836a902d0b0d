"""Commands that write are killed, and given again: the short form of ``benchmarks/kills.py``."""

import json
import os
import subprocess
import sys
from pathlib import Path

from helpers.commands import words_of
from helpers.writers import ELSEWHERE, READS, WRITES
from ssmith.cli.main import parser

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kills.py"
SHORT = ("train series", "prune series", "predict in parts", "trial", "report", "release export")
POINTS = 3


def test_every_command_is_killed_or_writes_nothing():
    known = [*WRITES, *READS, *ELSEWHERE]
    assert len(known) == len(set(known))
    assert set(known) == set(words_of(parser()))
    for name, forms in WRITES.items():
        assert all(command.startswith(name) for command in forms.values())


def test_killed_and_given_again_they_leave_the_same_bytes(tmp_path):
    command = [sys.executable, str(SCRIPT), "--points", str(POINTS), "--only", *SHORT]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "kills.json")],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "kills.json").read_text())
    assert found["tries"] == POINTS * len(SHORT)
    # A test in which nothing was killed would show nothing.
    assert found["ends"]["equal"] >= len(SHORT)
