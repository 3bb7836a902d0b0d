"""Let the disk be full while each command writes: one clear line, nothing lost, and then it works.

``python benchmarks/full_disks.py --out benchmarks/results/full_disks.json`` needs the right to
mount a tmpfs. Each command is run on one that has room for a share of what it writes. It must end
with code 2 and one line that says so (or not need the space after all), leave every file that it
was not to change as it was, and end as an undisturbed run once there is space again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kills import Killer, ended, start, start_all, state

ROOM = "512m"
SHARES = (0.0, 0.6)
_PAGE = 4096
_BAD_OUTPUT = 2


class OnDisk(Killer):
    """One form of a command on a disk of its own."""

    def clear(self) -> None:
        """Begin anew, with much room."""
        self.leave()
        self.place.mkdir(exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(self.place))
        shutil.copytree(self.begin, self.place, symlinks=True, dirs_exist_ok=True)

    def leave(self) -> None:
        """Give the disk back."""
        if self.place.is_mount():
            subprocess.run(["umount", str(self.place)], check=True)

    def used(self) -> int:
        """Return how many bytes are taken."""
        found = os.statvfs(self.place)
        return (found.f_blocks - found.f_bfree) * found.f_bsize

    def written(self) -> int:
        """Return how many bytes an undisturbed run takes."""
        after = self.used()
        self.clear()
        return after - self.used()

    def fill(self, share: float, written: int) -> dict[str, Any]:
        """Run the command with room for a share of what it writes, and again with all of it."""
        self.clear()
        room = int(share * max(written, 0)) // _PAGE * _PAGE
        before = state(self.place)
        _mount("-o", f"remount,size={self.used() + room}", str(self.place))
        code = ended(start(self.words, self.place, self.said))
        said = [line for line in self.said.read_text().splitlines() if "error:" in line]
        found = {"room": room, "of": written, "code": code, "said": [line[:300] for line in said]}
        after = state(self.place)
        lost = [
            name for name in before if before[name] == self.whole[0].get(name) != after.get(name)
        ]
        if lost:
            return found | {"end": "lost", "why": lost[0]}
        _mount("-o", f"remount,size={ROOM}", str(self.place))
        if code == self.codes[0]:
            return found | {"end": "fitted"}
        if code != _BAD_OUTPUT or len(said) != 1:
            return found | {"end": "not said in one line"}
        end, why = self.again()
        return found | {"end": end} | ({"why": why} if why else {})


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def run(label: str, begin: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Fill the disk of one form of a command."""
    with tempfile.TemporaryDirectory() as name:
        disk = OnDisk(label, begin, Path(name))
        try:
            written = disk.written()
            return {"tries": [disk.fill(share, written) for share in SHARES]}
        finally:
            disk.leave()


if __name__ == "__main__":
    sys.exit(start_all(run, argparse.ArgumentParser(description=__doc__)))
