"""Kill a process that adds, promotes and rolls back, at random moments; open the line each time.

Each time the line must open, be live with one of the two versions that were told before, verify
from the first entry to the last file, and hold nothing that no entry names.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from record import record

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers import killing  # noqa: E402
from helpers.lines import Shelf  # noqa: E402
from ssmith.release.promotion import promote  # noqa: E402

KILLS, QUICK = 200, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    kills = QUICK if quick else KILLS
    with tempfile.TemporaryDirectory() as name:
        shelf = Shelf(Path(name), clock=None)
        for text in ("one", "two"):
            promote(shelf.line, shelf.add(text))
        rows = killing.at_random(Path(name), kills, longest=0.4)
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
