"""The log of a line: one entry a line, each bound to the one before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ssmith.core.errors import ArtefactError
from ssmith.release.disk import PREFIX, canonical, digest_of
from ssmith.release.moments import parsed

START = PREFIX + 64 * "0"
"""What stands in the first entry for the one before."""
LIVE = ("promote", "override", "rollback")
"""What changes which version is live."""
EVIDENCE = ("canary", "watch", "alarm", "audit", "shadow", "ab", "note")
"""What others find out about a version."""
ACTIONS = ("init", "add", *LIVE, "refuse", "policy", "sign", *EVIDENCE)
_TEXTS = ("time", "actor", "action", "reason", "previous", "seal")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the log.

    Args:
        index: its place, from 0.
        time: in UTC, such as ``2026-11-01T00:00:00.123456Z``; never before the entry before.
        actor: id of the key that signed it; ``user@host`` where nobody did.
        signed: whether a key signed it.
        action: one of `ACTIONS`.
        version: digest of the version it is about; None if it is about the line.
        receipts: digests of the receipts it rests on.
        reason: in the words of whoever did it.
        details: small plain facts.
        previous: digest of the whole line before; `START` in the first.
        signatures: each of a key, over the entry without signatures and seal.
        seal: digest of the entry without its seal, so that a change of the last one shows, too.
    """

    index: int
    time: str
    actor: str
    signed: bool
    action: str
    version: str | None = None
    receipts: tuple[str, ...] = ()
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    previous: str
    signatures: tuple[Mapping[str, str], ...] = ()
    seal: str = ""

    def content(self) -> dict[str, Any]:
        """Return what a signature is over."""
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name not in ("signatures", "seal")
        }

    def line(self) -> bytes:
        """Return the entry as it stands in the log, sealed, without the end of the line."""
        return canonical({**self.content(), "signatures": self.signatures, "seal": self.sealed()})

    def sealed(self) -> str:
        """Return the digest of all but the seal."""
        return digest_of(canonical({**self.content(), "signatures": self.signatures}))

    @property
    def digest(self) -> str:
        """Digest of its line: what the next entry holds, and the head of the log if none comes."""
        return digest_of(self.line())


@dataclass(frozen=True, kw_only=True)
class Damage:
    """What is wrong with a log, and at which entry."""

    index: int
    text: str


def read(
    content: bytes, before: Sequence[Entry] = ()
) -> tuple[tuple[Entry, ...], tuple[Damage, ...]]:
    """Return what can be read of a log, or of what came after some entries, and its damages."""
    entries: list[Entry] = []
    damages: list[Damage] = []
    lines = content.split(b"\n")
    first = len(before)
    if lines.pop():
        text = "its end is missing: the log is cut off"
        damages.append(Damage(index=first + len(lines), text=text))
    if not lines and not before:
        damages.append(Damage(index=0, text="the log is empty"))
    previous, last = (before[-1].digest, before[-1].time) if before else (START, "")
    for place, line in enumerate(lines, first):
        try:
            entry = _entry(line)
        except ValueError as error:
            damages.append(Damage(index=place, text=f"it was changed ({error})"))
        else:
            damages += [
                Damage(index=place, text=text) for text in _wrong(entry, place, previous, last)
            ]
            entries.append(entry)
            last = entry.time
        previous = digest_of(line)
    return tuple(entries), tuple(damages)


def _entry(line: bytes) -> Entry:
    """Read one line; raises `ValueError` unless it is an entry to the last byte."""
    try:
        content = json.loads(line.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    names = {item.name for item in fields(Entry)}
    if not isinstance(content, dict) or set(content) != names:
        raise ValueError("not the keys of an entry")
    if not all(isinstance(content[name], str) for name in _TEXTS):
        raise ValueError("a value of another type")
    if type(content["index"]) is not int or not isinstance(content["details"], dict):
        raise ValueError("a value of another type")
    if not _texts(content["receipts"]) or not isinstance(content["signatures"], list):
        raise ValueError("a value of another type")
    if not all(
        isinstance(item, dict) and _texts([*item.values()]) for item in content["signatures"]
    ):
        raise ValueError("a value of another type")
    entry = Entry(
        **{
            **content,
            "receipts": tuple(content["receipts"]),
            "signatures": tuple(content["signatures"]),
        }
    )
    parsed(entry.time)
    if entry.line() != line:
        raise ValueError("its seal does not fit")
    return entry


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _wrong(entry: Entry, place: int, previous: str, last: str) -> Iterator[str]:
    """Yield what does not fit the entry before."""
    if entry.previous != previous:
        moved = f"; it says it is entry {entry.index}" if entry.index != place else ""
        yield f"it does not follow the entry before: one was changed, removed or moved{moved}"
    elif entry.index != place:
        yield f"it says it is entry {entry.index}"
    if entry.time < last:
        yield "it is older than the entry before"
    if (entry.action == "init") != (place == 0):
        yield f"{entry.action!r} cannot stand here"


def refuse_damaged(damages: tuple[Damage, ...], where: str) -> None:
    """Raise `ArtefactError` for the first thing that is wrong with a log."""
    if damages:
        first, more = damages[0], len(damages) - 1
        others = f" (and {more} more)" if more else ""
        raise ArtefactError(
            f"{where}: entry {first.index}: {first.text}{others}",
            next_step="see what `ssmith release verify` finds, and restore it from a copy",
        )
