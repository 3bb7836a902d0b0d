"""Several at once: one writer waits or is told, and readers see one version, whole."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers import readers
from helpers.lines import Shelf
from ssmith.release import lock
from ssmith.release.line import Line
from ssmith.release.promotion import promote, rollback
from ssmith.release.verify import verify

TESTS = Path(__file__).parents[1]
ROLLBACKS = 200


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path, clock=None)
    for text in ("one", "two"):
        promote(shelf.line, shelf.add(text))
    return shelf


def test_another_writer_is_told_or_waits(shelf):
    held, free = threading.Event(), threading.Event()

    def hold():
        with lock.writing(shelf.line.path, wait=1, who="promote by somebody"):
            held.set()
            free.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with pytest.raises(lock.BusyError, match="promote by somebody") as caught:
        Line.open(shelf.line.path, wait=0.05).record("note", version=None, reason="x")
    assert caught.value.exit_code == 75
    # Who only reads is not kept waiting.
    assert Line.open(shelf.line.path).live.name == "two"
    threading.Timer(0.3, free.set).start()
    began = time.monotonic()
    Line.open(shelf.line.path, wait=60).record("note", version=None, reason="y")
    assert time.monotonic() - began > 0.2
    holder.join()


def test_writers_in_turn_lose_nothing(shelf):
    code = (
        "import sys; from ssmith.release.line import Line\n"
        "line = Line.open(sys.argv[1])\n"
        "for i in range(20): line.record('note', version=None, reason=f'{sys.argv[2]} {i}')"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, shelf.line.path, str(one)])
        for one in range(3)
    ]
    assert [item.wait() for item in running] == [0, 0, 0]
    said = [item.reason for item in shelf.line.entries() if item.action == "note"]
    assert sorted(said) == sorted(f"{one} {i}" for one in range(3) for i in range(20))
    for one in range(3):
        own = [text for text in said if text.startswith(f"{one} ")]
        assert own == [f"{one} {i}" for i in range(20)]
    assert verify(shelf.line).passed


def test_readers_never_see_half_during_rollbacks(shelf, tmp_path):
    first, second = shelf.line.versions()
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    stop = tmp_path / "stop"
    running = [
        subprocess.Popen(
            [sys.executable, readers.__file__, shelf.line.path, stop],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        for count in range(ROLLBACKS):
            rollback(shelf.line, first if count % 2 == 0 else second)
    finally:
        stop.touch()
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        seen = json.loads(out)
        assert set(seen) == {"one", "two"}
    assert verify(shelf.line).passed
    assert len(shelf.line.entries()) == 5 + ROLLBACKS
