"""Kill a process that adds, promotes and rolls back, at random moments; open the line each time.

Each time the line must open, be live with one of the two versions that were told before, verify
from the first entry to the last file, and hold nothing that no entry names.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers import killing  # noqa: E402
from helpers.lines import Shelf  # noqa: E402
from ssmith.release import change  # noqa: E402
from ssmith.release.line import Line  # noqa: E402
from ssmith.release.promotion import promote  # noqa: E402
from ssmith.release.verify import verify  # noqa: E402

KILLS, QUICK = 200, 10


def kill(place: Path, seed: int, pause: float) -> dict[str, object]:
    """Start a process that changes the line without end, kill it, and say how things stand."""
    before = len(Line.open(place / "line").entries())
    running = subprocess.Popen(
        [sys.executable, killing.__file__, "endless", str(place), str(seed)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    first = running.stdout.readline()
    time.sleep(pause)
    running.kill()
    rest, _ = running.communicate()
    kind, *allowed = json.loads((first + rest).strip().splitlines()[-1])
    leftovers = change.has_leftovers(place / "line")
    line = Line.open(place / "line")
    found = verify(line)
    live = None if line.live is None else line.live.digest
    strangers = {item.name for item in line.path.iterdir()} - killing.OWN
    return {
        "during": kind,
        "mid_write": leftovers,
        "entries": len(line.entries()) - before,
        "opens_as_before_or_after": live in allowed,
        "verifies": found.passed,
        "leaks": sorted(strangers),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    draw, kills = random.Random(0), QUICK if quick else KILLS
    with tempfile.TemporaryDirectory() as name:
        shelf = Shelf(Path(name), clock=None)
        for text in ("one", "two"):
            promote(shelf.line, shelf.add(text))
        rows = [kill(Path(name), seed, draw.uniform(0, 0.4)) for seed in range(kills)]
    during = {kind: sum(row["during"] == kind for row in rows) for kind in killing.KINDS}
    summary = {
        "kills": kills,
        "during": during,
        "killed_mid_write": sum(bool(row["mid_write"]) for row in rows),
        "opened_as_before_or_after": sum(bool(row["opens_as_before_or_after"]) for row in rows),
        "verified": sum(bool(row["verifies"]) for row in rows),
        "leaked": sum(bool(row["leaks"]) for row in rows),
    }
    record("release_kills", {"rows": rows}, summary, quick=quick)


if __name__ == "__main__":
    main()
