"""Command lines in forks that tell of their operations on files, and die before one of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssmith.cli.main import main
from ssmith.release import change

CHANGES = {
    "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.symlink", "os.link", "os.truncate",
    "os.chmod", "shutil.rmtree",
}  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def start(
    command: list[str],
    place: Path,
    said: Path,
    kill_at: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a command line in a fork that tells of its operations on files; return its id."""
    child = os.fork()
    if child == 0:
        os.chdir(place)
        os.environ.update(environment or {})
        told = Told(place, kill_at)
        with said.open("w") as stream, contextlib.redirect_stdout(stream):
            sys.stderr = stream
            sys.addaudithook(told)
            code = main(command)
            told.ends = True
            stream.write("\n" + json.dumps(told.events))
            stream.flush()
            os._exit(code)
    return child


def dies_entering(patched: Any, when: str) -> None:
    """Let forks die right before or behind the moment at which an entry is in a line's log."""
    real = change.append

    def deadly(path: Path, content: bytes) -> None:
        if when == "behind":
            real(path, content)
        os.kill(os.getpid(), signal.SIGKILL)

    patched.setattr(change, "append", deadly)


class Told:
    """Counts operations on files below a place, and kills the process before one of them."""

    def __init__(self, place: Path, kill_at: int | None) -> None:
        self.place, self.kill_at, self.ends = str(place), kill_at, False
        self.events: list[str] = []

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        if self.ends or not self._changes(event, given):
            return
        self.events.append(event)
        if len(self.events) - 1 == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _changes(self, event: str, given: tuple[Any, ...]) -> bool:
        if event == "ctypes.dlsym":
            return bool(given[1] == "renameat2")
        writes = event == "open" and isinstance(given[2], int) and given[2] & _WRITING
        if not (writes or event in CHANGES) or isinstance(given[0], int):
            return False
        name = os.fsdecode(given[0])
        return not Path(name).is_absolute() or name.startswith(self.place)


def ended(child: int) -> int:
    """Wait for a fork."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
