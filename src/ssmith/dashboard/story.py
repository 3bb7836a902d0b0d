"""What a line's log tells: its versions, when each was live, what each measured, what alarmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ssmith.core.looks import LookReceipt
from ssmith.core.receipt import Receipt
from ssmith.dashboard.measures import Measures, read_measures
from ssmith.release.log import LIVE, Entry
from ssmith.release.verify import Checked


@dataclass(frozen=True, kw_only=True)
class Span:
    """A time during which one version was live; without an end while it is."""

    start: datetime
    end: datetime | None


@dataclass(frozen=True, kw_only=True)
class VersionStory:
    """One version of a line, by its number in order of arrival, from 1, and its digest.

    ``model`` is the digest of its tensors, by which receipts name it, ``parent`` that of what it
    was made from. Its state is ``live``, ``before`` (was live), ``refused`` or ``waiting``; entries
    about it are the oldest first.
    """

    place: int
    digest: str
    directory: Path | None
    added: Entry
    receipt: Receipt | None
    measures: Measures
    model: str = ""
    parent: str | None = None
    spans: tuple[Span, ...] = ()
    state: str = "waiting"
    entries: tuple[Entry, ...] = ()

    @property
    def short(self) -> str:
        """The first letters of its digest, enough for a command."""
        return self.digest.removeprefix("sha256:")[:8]


@dataclass(frozen=True, kw_only=True)
class Story:
    """One line, ``where`` a command would name it: its log, oldest first, and what a check found.

    Versions are in order of arrival, what looks of watches found is by digest.
    """

    name: str
    where: str
    entries: tuple[Entry, ...]
    versions: tuple[VersionStory, ...]
    checked: Checked
    looks: Mapping[str, LookReceipt] = field(default_factory=dict)

    @property
    def live(self) -> VersionStory | None:
        """The version that is live now."""
        return next((version for version in self.versions if version.state == "live"), None)

    @property
    def overrides(self) -> tuple[Entry, ...]:
        """Promotions against a rule."""
        return tuple(entry for entry in self.entries if entry.action == "override")

    @property
    def now(self) -> datetime:
        """The last moment the log speaks of; pages measure spans that go on until then."""
        return moment_of(self.entries[-1].time)

    def version(self, digest: str | None) -> VersionStory | None:
        """Return a version by its digest."""
        return next((item for item in self.versions if item.digest == digest), None)

    def newest(self, *actions: str, of: str | None = None) -> Entry | None:
        """Return the newest entry of some actions, of one version if asked."""
        found = (
            entry
            for entry in reversed(self.entries)
            if entry.action in actions and (of is None or entry.version == of)
        )
        return next(found, None)


@dataclass(frozen=True, kw_only=True)
class Added:
    """A version as the line holds it, with digests of its tensors and of what it was made from."""

    digest: str
    directory: Path | None
    added: Entry
    receipt: Receipt | None
    model: str = ""
    parent: str | None = None


def versions_of(entries: Sequence[Entry], added: Sequence[Added]) -> tuple[VersionStory, ...]:
    """Return the versions of a line with all that the log says of each."""
    measures = read_measures([item.receipt for item in added], [item.directory for item in added])
    spans = live_spans(entries)
    return tuple(
        VersionStory(
            place=place,
            digest=item.digest,
            directory=item.directory,
            added=item.added,
            receipt=item.receipt,
            measures=measure,
            model=item.model,
            parent=item.parent,
            spans=tuple(spans.get(item.digest, ())),
            state=_state(entries, item.digest, spans.get(item.digest, [])),
            entries=tuple(entry for entry in entries if entry.version == item.digest),
        )
        for place, (item, measure) in enumerate(zip(added, measures, strict=True), 1)
    )


def live_spans(entries: Sequence[Entry]) -> dict[str, list[Span]]:
    """Return when each version was live, oldest span first."""
    spans: dict[str, list[Span]] = {}
    now: tuple[str, datetime] | None = None
    for entry in entries:
        if entry.action not in LIVE or entry.version is None:
            continue
        time = moment_of(entry.time)
        if now is not None:
            if now[0] == entry.version:
                continue
            spans.setdefault(now[0], []).append(Span(start=now[1], end=time))
        now = (entry.version, time)
    if now is not None:
        spans.setdefault(now[0], []).append(Span(start=now[1], end=None))
    return spans


def moment_of(time: str) -> datetime:
    """Return a moment of the log."""
    return datetime.fromisoformat(time)


def _state(entries: Sequence[Entry], digest: str, spans: Sequence[Span]) -> str:
    if spans:
        return "live" if spans[-1].end is None else "before"
    refused = any(entry.action == "refuse" and entry.version == digest for entry in entries)
    return "refused" if refused else "waiting"
