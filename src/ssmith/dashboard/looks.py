"""What watches found, read from their receipts look by look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ssmith.dashboard.story import Story, moment_of
from ssmith.release.log import Entry
from ssmith.report.look import find, items, mapping, number, text

LOOKS = ("watch", "alarm")
"""Actions of entries that a look leaves."""


@dataclass(frozen=True, kw_only=True)
class SiteLook:
    """What the cut of one layer costs.

    Args:
        name: of the layer.
        times: cost now over cost at release, with its interval; None if it is not known.
        now: share of the layer's output that is lacking.
        at_release: the same at release.
        removed: share that what was removed would carry.
        removed_at_release: the same at release.
    """

    name: str
    times: tuple[float, float, float] | None
    now: float | None
    at_release: float | None
    removed: float | None
    removed_at_release: float | None


@dataclass(frozen=True, kw_only=True)
class LookFinding:
    """One thing that a look found.

    Args:
        kind: cut, input, output, quality, speed or coverage.
        alarm: whether it is an alarm.
        what: in the watch's words.
        since: since when.
        sure: how sure, in the watch's words.
        size: how large: value and interval, in ``unit``.
        unit: of the size.
        commands: what to do, the first one first.
    """

    kind: str
    alarm: bool
    what: str
    since: str
    sure: str
    size: tuple[float, float, float] | None
    unit: str
    commands: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One reading of inputs, outputs or the cut beside its profile.

    Args:
        kind: input, output or cut.
        place: channel, class or layer.
        what: the number that was read.
        alarm: whether it has drifted.
        distance: largest difference of the shares of rows up to a value, in [0, 1].
        before: mean in the profile.
        now: mean now.
        p: how likely so much is by chance, at all looks together.
    """

    kind: str
    place: str
    what: str
    alarm: bool
    distance: float
    before: float
    now: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look.

    Args:
        entry: that it left.
        rows: that were looked at.
        findings: alarms first.
        sites: what the cut costs, the worst first.
        loss: what the metric is expected to lose by the cut, with its interval.
        drifts: the surest of each kind.
        metric: name of the quality; empty without labels.
        quality: on these rows.
        promised: at release.
        seconds: of a pass; None if it was not timed.
        least: distance below which no drift is an alarm.
    """

    entry: Entry
    rows: int
    findings: tuple[LookFinding, ...] = ()
    sites: tuple[SiteLook, ...] = ()
    loss: tuple[float, float, float] | None = None
    drifts: tuple[Drift, ...] = ()
    metric: str = ""
    quality: float | None = None
    promised: float | None = None
    seconds: float | None = None
    least: float | None = None

    @property
    def time(self) -> datetime:
        """When it was."""
        return moment_of(self.entry.time)

    @property
    def alarm(self) -> bool:
        """Whether it raised an alarm."""
        return self.entry.action == "alarm"

    def alarms(self, kind: str) -> bool:
        """Whether something of a kind is beyond its limit."""
        return any(item.alarm and item.kind == kind for item in self.findings)

    def farthest(self, kind: str) -> float | None:
        """Return the largest distance of a kind."""
        found = [item.distance for item in self.drifts if item.kind == kind]
        return max(found, default=None)


def looks_of(story: Story) -> tuple[Look, ...]:
    """Return every look of a line, the oldest first."""
    return tuple(
        _look(entry, story.looks.get(entry.receipts[0], {}) if entry.receipts else {})
        for entry in story.entries
        if entry.action in LOOKS
    )


def _look(entry: Entry, receipt: Mapping[str, Any]) -> Look:
    sites = [_site(name, site) for name, site in mapping(receipt, "cut", "sites").items()]
    sites.sort(key=lambda site: -(site.times[0] if site.times else 0.0))
    return Look(
        entry=entry,
        rows=int(number(receipt, "rows") or number(entry.details, "rows") or 0),
        findings=tuple(_finding(item) for item in items(receipt, "findings")),
        sites=tuple(sites),
        loss=_interval(find(receipt, "cut", "loss")),
        drifts=tuple(
            found for item in items(receipt, "drifts") if (found := _drift(item)) is not None
        ),
        metric=text(receipt, "quality", "metric"),
        quality=number(receipt, "quality", "now"),
        promised=number(receipt, "quality", "promised"),
        seconds=number(receipt, "speed", "seconds") or None,
        least=number(receipt, "settings", "least"),
    )


def _site(name: str, site: Any) -> SiteLook:
    ends = [number({"end": end}, "end") for end in items(site, "times")]
    whole = len(ends) == 3 and None not in ends
    return SiteLook(
        name=name,
        times=(ends[0] or 0.0, ends[1] or 0.0, ends[2] or 0.0) if whole else None,
        now=number(site, "now"),
        at_release=number(site, "at_release"),
        removed=number(site, "removed"),
        removed_at_release=number(site, "removed_at_release"),
    )


def _finding(item: Any) -> LookFinding:
    return LookFinding(
        kind=text(item, "kind"),
        alarm=find(item, "alarm") is True,
        what=text(item, "what"),
        since=text(item, "since"),
        sure=text(item, "sure"),
        size=_interval(find(item, "size")),
        unit=text(item, "size", "unit"),
        commands=tuple(text({"one": one}, "one") for one in items(item, "do")),
    )


def _drift(item: Any) -> Drift | None:
    distance, before, now = (number(item, key) for key in ("distance", "before", "now"))
    if distance is None or before is None or now is None:
        return None
    return Drift(
        kind=text(item, "kind"),
        place=text(item, "place"),
        what=text(item, "what"),
        alarm=find(item, "alarm") is True,
        distance=distance,
        before=before,
        now=now,
        p=number(item, "adjusted") or 0.0,
    )


def _interval(section: Any) -> tuple[float, float, float] | None:
    value, low, high = (number(section, key) for key in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return None
    return value, low, high
