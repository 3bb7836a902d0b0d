"""One change of a line: staged aside, journalled, then all of it or nothing.

What is new is staged and moved in before its entry is in the log; what says which version is live
is exchanged after it. The entry's last byte is the moment of the change: a writer that is killed
before leaves a journal by which the next one puts everything back, and after it one by which the
next finishes. Putting back needs no space, so that a full disk cannot keep a line closed.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError
from ssmith.release.disk import append, canonical, digest_of, remove, settle, write_new

LOG = "log.jsonl"
# Told apart from what people may keep in a directory that is no line.
JOURNAL = ".ssmith-journal"
STAGING = ".ssmith-staging"


@dataclass
class Staged:
    """What is to become of a line, under its lock.

    Args:
        root: the line's directory.
        size: bytes of the log before.
        new: what is moved in: staged name → place, both below the root; it was not there before.
        exchanged: what takes the place of something else, once the entry is in the log.
    """

    root: Path
    size: int
    new: list[tuple[str, str]] = field(default_factory=list)
    exchanged: list[tuple[str, str]] = field(default_factory=list)

    def stage(self) -> str:
        """Return a free name in the staging directory."""
        (self.root / STAGING).mkdir(exist_ok=True)
        return f"{STAGING}/{len(self.new) + len(self.exchanged)}"

    def add(self, place: str, content: bytes) -> None:
        """Add a file under a name that says its content, unless it is there."""
        if not (self.root / place).exists() and all(place != other for _, other in self.new):
            staged = self.stage()
            write_new(self.root / staged, content)
            self.new.append((staged, place))

    def add_directory(self, place: str) -> Path:
        """Return an empty directory that becomes the place; the caller fills it."""
        staged = self.stage()
        (self.root / staged).mkdir()
        self.new.append((staged, place))
        return self.root / staged

    def replace(self, place: str, content: bytes) -> None:
        """Replace a file."""
        staged = self.stage()
        write_new(self.root / staged, content)
        self.exchanged.append((staged, place))

    def point(self, place: str, target: str) -> None:
        """Let a symlink point elsewhere."""
        staged = self.stage()
        (self.root / staged).symlink_to(target, target_is_directory=True)
        self.exchanged.append((staged, place))

    def commit(self, line: bytes) -> None:
        """Make the change, with its line in the log; after an `OSError` everything is as before."""
        plan = {
            "size": self.size, "entry": digest_of(line), "new": self.new,
            "exchanged": self.exchanged,
        }  # fmt: skip
        staged = self.root / self.stage()
        write_new(staged, canonical(plan))
        staged.rename(self.root / JOURNAL)
        try:
            for source, place in self.new:
                (self.root / place).parent.mkdir(exist_ok=True)
                (self.root / source).rename(self.root / place)
                settle((self.root / place).parent)
            append(self.root / LOG, line + b"\n")
        except OSError as error:
            self._undo(plan, error)
            raise
        except BaseException:
            self._undo(plan, None)
            raise
        try:
            recover(self.root)
        except OSError as error:
            raise self._later("the change is in the log", error) from error

    def _undo(self, plan: dict[str, Any], error: OSError | None) -> None:
        """Put back what was begun; raises `ArtefactError` where even that is refused."""
        try:
            _put_back(self.root, plan)
            recover(self.root)
        except OSError:
            if error is not None:
                raise self._later("the change was begun", error) from error

    def _later(self, how: str, error: OSError) -> ArtefactError:
        return ArtefactError(
            f"{self.root}: {error.strerror or error}",
            next_step=f"{how}; what is left of it is done when the line is opened next",
        )


def recover(root: Path) -> None:
    """Finish what has its entry in the log, put back what has not, and sweep; under the lock.

    Raises `ArtefactError` if the journal and the log are not of one line.
    """
    plan = journal(root)
    if plan is not None:
        tail = _tail(root, plan["size"])
        if tail.endswith(b"\n") and digest_of(tail[:-1]) == plan["entry"]:
            for source, place in plan["exchanged"]:
                if os.path.lexists(root / source):
                    (root / place).parent.mkdir(parents=True, exist_ok=True)
                    (root / source).rename(root / place)
                    settle((root / place).parent)
        else:
            _put_back(root, plan)
        (root / JOURNAL).unlink()
        settle(root)
    remove(root / STAGING)


def journal(root: Path) -> dict[str, Any] | None:
    """Return what a change that is under way, or was killed, is about; None if there is none."""
    path = root / JOURNAL
    try:
        plan = json.loads(path.read_bytes())
        pairs = [*plan["new"], *plan["exchanged"]]
        held = type(plan["size"]) is int and isinstance(plan["entry"], str)
        if not held or not all(_inside(source) and _inside(place) for source, place in pairs):
            raise ValueError("another form")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtefactError(
            f"{path} is no journal of a change",
            next_step="nothing of ours writes it so: remove it if the line verifies without it",
        ) from error
    return dict(plan)


def has_leftovers(root: Path) -> bool:
    """Return whether a writer is at work, or was killed."""
    return (root / JOURNAL).exists() or (root / STAGING).exists()


def _inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _tail(root: Path, size: int) -> bytes:
    log = root / LOG
    content = log.read_bytes() if log.exists() else b""
    if len(content) < size:
        raise ArtefactError(
            f"{log} has {len(content)} bytes and had {size} when a change began",
            next_step="restore it from a copy",
        )
    return content[size:]


def _put_back(root: Path, plan: dict[str, Any]) -> None:
    for source, place in plan["new"]:
        if (root / place).exists() and not (root / source).exists():
            (root / STAGING).mkdir(exist_ok=True)
            (root / place).rename(root / source)
    log = root / LOG
    if plan["size"] == 0:
        log.unlink(missing_ok=True)
    elif log.stat().st_size > plan["size"]:
        os.truncate(log, plan["size"])
