"""The beginning of a line."""

from __future__ import annotations

from pathlib import Path

from ssmith.core.errors import InputError, OutputExistsError
from ssmith.release import change as changes
from ssmith.release import lock, moments
from ssmith.release.change import LOG, Staged
from ssmith.release.disk import in_our_words, plain
from ssmith.release.keys import Key
from ssmith.release.line import Line, sweep
from ssmith.release.moments import Clock
from ssmith.release.policy import Policy
from ssmith.release.writing import ABOUT, FORMAT_VERSION, Writing, about, us


def init(
    path: str | Path,
    policy: Policy | None = None,
    *,
    name: str | None = None,
    reason: str = "",
    clock: Clock = moments.now,
    key: Key | None = None,
    wait: float = 60.0,
) -> Line:
    """Begin a line.

    Args:
        path: the directory to make.
        policy: what must hold before a version may go live; the default one if None.
        name: what to call it; the directory's name if None.
        reason: in words.
        clock: what time it is, in UTC.
        key: that signs.
        wait: how many seconds to wait for another writer.

    Returns:
        The line.

    Raises:
        OutputExistsError: if something is there.
        InputError: if the name is empty.
        ArtefactError: if the disk refuses.
        BusyError: if another writer is not done in time.
    """
    root = Path(path)
    called = plain(root.resolve().name if name is None else name)
    if not called:
        raise InputError(f"the name {name or called!r} is empty", allowed="a text")
    policy = Policy() if policy is None else policy
    line = Line(path=root, clock=clock, wait=wait)
    sweep(root)
    _refuse_occupied(root)
    with in_our_words(root):
        root.mkdir(parents=True, exist_ok=True)
        with lock.writing(root, wait=wait, who=f"init by {us()}"):
            changes.recover(root)
            _refuse_occupied(root)
            writing = Writing(staged=Staged(root=root, size=0), before=(), clock=clock)
            writing.staged.replace(ABOUT, about(called, policy))
            details = {"name": called, "policy": policy.as_plain(), "format": FORMAT_VERSION}
            writing.record("init", reason=reason, details=details, key=key)
    return line


def _refuse_occupied(root: Path) -> None:
    """Raise if there is more at a place than an `init` that was killed leaves."""
    if root.exists() and not root.is_dir():
        raise OutputExistsError(f"{root} is a file", next_step="choose another directory")
    there = {item.name for item in root.iterdir()} if root.is_dir() else set()
    if there - {lock.LOCK, changes.STAGING}:
        what = "holds a line already" if LOG in there else "is not empty"
        raise OutputExistsError(f"{root} {what}", next_step="choose another directory")
