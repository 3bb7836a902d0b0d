"""Command lines in forks that tell of their operations on files, and die before one of them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import rich.table  # noqa: F401 - loaded once, before the forks

from ssmith.cli.main import main, parser
from ssmith.release import change

CHANGES = {
    "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.symlink", "os.link", "os.truncate",
    "os.chmod", "shutil.rmtree",
}  # fmt: skip
PR_SET_PDEATHSIG = 1
"""Of Linux: dies when the process that made it does, as a launcher sees to."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def start(
    command: list[str],
    place: Path,
    said: Path,
    kill_at: int | None = None,
    processes: int = 1,
) -> int:
    """Run a command line in a fork that tells of its operations on files; return its id.

    Of several processes, as a launcher starts them, it is the first one: the others die with it.
    """
    # Read from the source of all commands once, which every fork would do anew.
    parser()
    child = os.fork()
    if child == 0:
        os.chdir(place)
        others = _others(processes, command, said)
        told = Told(place, kill_at)
        with said.open("w") as stream, contextlib.redirect_stdout(stream):
            sys.stderr = stream
            sys.addaudithook(told)
            code = main(command)
            told.ends = True
            if code == 0:
                code = max(map(ended, others), default=0)
            stream.write("\n" + json.dumps(told.events))
            stream.flush()
            os._exit(code)
    return child


def _others(processes: int, command: list[str], said: Path) -> list[int]:
    """Start the other processes of a group, and join it as its first one."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    given = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    os.environ.update(given | {"RANK": "0", "LOCAL_RANK": "0"})
    children = []
    for rank in range(1, processes):
        child = os.fork()
        if child == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank)})
            with said.with_name(f"{said.name}-{rank}").open("w") as stream:
                sys.stdout = sys.stderr = stream
                code = main(command)
                stream.flush()
                os._exit(code)
        children.append(child)
    return children


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
