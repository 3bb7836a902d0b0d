"""The line of a model's versions on disk: opened, read, and written by one writer at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError, InputError
from ssmith.release import change as changes
from ssmith.release import lock, log, moments
from ssmith.release.change import LOG, Staged
from ssmith.release.disk import digest_of, in_our_words
from ssmith.release.keys import Key
from ssmith.release.log import Entry
from ssmith.release.moments import Clock
from ssmith.release.policy import Policy, policy_from
from ssmith.release.version import Version, find, live_in
from ssmith.release.writing import ABOUT, FORMAT_VERSION, LIVE_LINK, Writing, us

NEWEST = "newest"
COUNTED = "counts"
_TRIES, _PAUSE = 100, 0.02


@dataclass
class Line:
    """A line that was opened.

    Args:
        path: its directory.
        clock: what time it is.
        wait: how many seconds to wait for another writer.
    """

    path: Path
    clock: Clock = moments.now
    wait: float = 60.0
    _read: tuple[object, bytes, tuple[Entry, ...]] = field(
        default=(None, b"", ()), repr=False, compare=False
    )

    @classmethod
    def open(cls, path: str | Path, *, clock: Clock = moments.now, wait: float = 60.0) -> Line:
        """Open a line, as it was before or after whatever a killed writer had begun.

        Args:
            path: its directory.
            clock: what time it is, in UTC.
            wait: how many seconds to wait for another writer.

        Returns:
            The line; what a killed writer left is swept, where we may write.

        Raises:
            InputError: if there is no line.
            ArtefactError: if its log is missing.
        """
        root = Path(path)
        sweep(root)
        if not (root / LOG).is_file():
            if (root / ABOUT).is_file():
                raise ArtefactError(f"{root / LOG} is missing", next_step="restore it from a copy")
            raise InputError(
                f"there is no line at {root}",
                allowed=f"a directory that holds {LOG}",
                next_step=f"make one: `ssmith release init {root}`",
            )
        return cls(path=root, clock=clock, wait=wait)

    @property
    def name(self) -> str:
        """What the line is called."""
        return str(self.entries()[0].details["name"])

    @property
    def policy(self) -> Policy:
        """What must hold before a version may go live."""
        return policy_at(self.entries())

    @property
    def head(self) -> str:
        """Digest of the last line of the log, to be kept elsewhere."""
        return self.entries()[-1].digest

    def entries(self) -> tuple[Entry, ...]:
        """Return the log, the oldest entry first; raises `ArtefactError` if it was changed."""
        found = (self.path / LOG).stat()
        known = (found.st_ino, found.st_size, found.st_mtime_ns)
        stamp, content, entries = self._read
        if stamp != known:
            grown = log_of(self.path)
            # A log only grows: what was read stays read.
            start = content if grown.startswith(content) else b""
            entries = entries if start else ()
            new, damages = log.read(grown[len(start) :], entries)
            log.refuse_damaged(damages, str(self.path / LOG))
            entries = (*entries, *new)
            _refuse_format(entries, self.path)
            self._read = (known, grown, entries)
        return entries

    @property
    def live(self) -> Version | None:
        """The version that is live; None if none was promoted yet."""
        return self._at(self.entries())

    def at(self, moment: datetime) -> Version | None:
        """Return the version that was live at a time with its time zone; None if none was."""
        until = moments.written(moment)
        return self._at([item for item in self.entries() if item.time <= until])

    def versions(self) -> tuple[Version, ...]:
        """Return all versions, the oldest first."""
        about: dict[str, list[Entry]] = {}
        for item in self.entries():
            if item.version is not None:
                about.setdefault(item.version, []).append(item)
        added = [item for item in self.entries() if item.action == "add"]
        return tuple(self._version(item, about[str(item.version)]) for item in added)

    def version(self, prefix: str) -> Version:
        """Return a version by the first digits of its digest, four or more, ``live`` or ``newest``.

        Raises `InputError` if there is none, or more than one.
        """
        if prefix == LIVE_LINK:
            live = self.live
            if live is None:
                raise InputError("no version is live yet", next_step="promote one first")
            return live
        added = {item.version: item for item in self.entries() if item.action == "add"}
        digests = [digest for digest in added if digest is not None]
        if not digests:
            raise InputError(
                f"{self.path} holds no version", next_step=f"ssmith release add {self.path} MODEL"
            )
        if prefix == NEWEST:
            return self._version(added[digests[-1]])
        return self._version(added[find(digests, prefix, where=str(self.path))])

    def record(
        self,
        action: str,
        *,
        version: Version | str | None,
        receipts: Sequence[Mapping[str, Any]] = (),
        reason: str = "",
        details: Mapping[str, Any] | None = None,
        beside: Mapping[str, bytes] | None = None,
        key: Key | None = None,
    ) -> Entry:
        """Write down what was found out about a version.

        Args:
            action: one of `log.EVIDENCE`.
            version: that it is about, or its digest; None if it is about the line.
            receipts: what it rests on, JSON-ready; kept in the line.
            reason: in words.
            details: small plain facts.
            beside: files of the line that take the place of earlier ones with the entry, which
                names their digests; by their path below the line.
            key: that signs it.

        Returns:
            The entry.

        Raises:
            InputError: if the action is another one, or there is no such version.
            BusyError: if another writer is not done in time.
            ArtefactError: if the disk refuses, or the clock runs backwards.
        """
        if action not in log.EVIDENCE:
            raise InputError(f"action {action!r}", allowed=", ".join(log.EVIDENCE))
        about = version.digest if isinstance(version, Version) else version
        digest = None if about is None else self.version(about).digest
        with self.change(action) as writing:
            kept = tuple(writing.keep_receipt(item) for item in receipts)
            facts = dict(details or {})
            for place, content in (beside or {}).items():
                writing.staged.replace(place, content)
                facts.setdefault(COUNTED, {})[place] = digest_of(content)
            return writing.record(
                action, version=digest, receipts=kept, reason=reason, details=facts, key=key
            )

    @contextmanager
    def change(self, what: str) -> Iterator[Writing]:
        """Hold the lock, with whatever a killed writer left swept; recording is what changes.

        Raises `BusyError` if another writer is not done in time, `ArtefactError` if the disk
        refuses; ``what`` is done is told to others that wait.
        """
        with (
            in_our_words(self.path),
            lock.writing(self.path, wait=self.wait, who=f"{what} by {us()}"),
        ):
            changes.recover(self.path)
            staged = Staged(root=self.path, size=(self.path / LOG).stat().st_size)
            try:
                yield Writing(staged=staged, before=self.entries(), clock=self.clock)
            finally:
                # After a change it is gone; what a full disk keeps here is swept the next time.
                with suppress(OSError):
                    changes.recover(self.path)

    def _at(self, entries: Sequence[Entry]) -> Version | None:
        digest = live_in(entries)
        return None if digest is None else self.version(digest)

    def _version(self, added: Entry, about: Sequence[Entry] | None = None) -> Version:
        of_it = self.entries() if about is None else about
        return Version(
            digest=str(added.version),
            root=self.path,
            added=added,
            evidence=tuple(
                item
                for item in of_it
                if item.version == added.version and item.action in ("add", "note")
            ),
        )


def sweep(root: Path) -> None:
    """Finish or put back what a killed writer had begun, unless one is at work or we may not."""
    if changes.has_leftovers(root):
        with lock.if_free(root) as free, in_our_words(root):
            if free:
                changes.recover(root)


def _refuse_format(entries: Sequence[Entry], root: Path) -> None:
    said = entries[0].details.get("format", FORMAT_VERSION)
    if said != FORMAT_VERSION:
        raise ArtefactError(
            f"{root} is a line of format {said!r}",
            allowed=str(FORMAT_VERSION),
            next_step="use the version of ssmith that wrote it",
        )


def policy_at(entries: Sequence[Entry]) -> Policy:
    """Return the policy that holds after some entries."""
    said = [item.details["policy"] for item in entries if item.action in ("init", "policy")]
    return policy_from(said[-1], where="the policy in the log")


def counted_in(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the digests of the files of counts, by their path below the line, as they are last."""
    return {
        place: digest
        for entry in entries
        for place, digest in entry.details.get(COUNTED, {}).items()
    }


def log_of(root: Path) -> bytes:
    """Return the log of a line up to its last whole entry, also while another one is written."""
    content = b""
    for _ in range(_TRIES):
        under_way = changes.journal(root)
        content = (root / LOG).read_bytes()
        if content.endswith(b"\n"):
            return content
        if under_way is not None:
            return content[: under_way["size"]]
        time.sleep(_PAUSE)
    return content
