"""The pages of lines: what is live, how it came to be, what each version costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ssmith.dashboard.charts import Bar, Dot, Event, panel, timeline
from ssmith.dashboard.language import Language, mark
from ssmith.dashboard.story import Story, VersionStory, moment_of
from ssmith.dashboard.values import metric_name, quality_format
from ssmith.report.plot import Plot

MONTH = timedelta(days=365.25 / 12)
_EVENTS = {"refuse": "refuse", "alarm": "alarm", "rollback": "rollback", "override": "override"}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One small multiple, its title and value in words, by the key of the glossary.

    The note says the value of the first version; fewer than two values make no plot.
    """

    term: str
    title: str
    value: str
    note: str
    plot: Plot | None


@dataclass(frozen=True, kw_only=True)
class _Quantity:
    """What a panel is about: term, title, how values are written, and where they are found."""

    term: str
    title: str
    written: Callable[[float], str]
    read: Callable[[VersionStory], float | None]


def panels(story: Story, language: Language) -> list[Panel]:
    """Return quality, size, latency and cost of every version, as far as they are known."""
    shown = (story.live or story.versions[-1]) if story.versions else None
    if shown is None:
        return []
    metric, currency = shown.measures.metric, shown.measures.currency
    name = language.say(metric_name(shown.measures))
    quantities = (
        _Quantity(
            term="quality",
            title=name[:1].upper() + name[1:],
            written=quality_format(metric, language),
            read=lambda item: item.measures.quality if item.measures.metric == metric else None,
        ),
        _Quantity(
            term="size",
            title=language.say("Size on disk"),
            written=language.size,
            read=lambda item: item.measures.size,
        ),
        _Quantity(
            term="latency",
            title=language.say("Latency per batch"),
            written=language.seconds,
            read=lambda item: item.measures.latency,
        ),
        _Quantity(
            term="cost",
            title=language.say("Cost per month, estimated"),
            written=lambda value: language.money(value, currency),
            read=lambda item: item.measures.cost if item.measures.currency == currency else None,
        ),
    )
    found = (_panel(story, shown, quantity, language) for quantity in quantities)
    return [panel for panel in found if panel is not None]


def _panel(
    story: Story, shown: VersionStory, quantity: _Quantity, language: Language
) -> Panel | None:
    value, first = quantity.read(shown), quantity.read(story.versions[0])
    if value is None:
        return None
    dots = [
        Dot(
            place=version.place,
            value=known,
            interval=version.measures.interval if quantity.term == "quality" else None,
            state=version.state,
        )
        for version in story.versions
        if (known := quantity.read(version)) is not None
    ]
    beside = first is not None and shown is not story.versions[0]
    drawn = ", ".join(f"{dot.place}: {quantity.written(dot.value)}" for dot in dots)
    return Panel(
        term=quantity.term,
        title=quantity.title,
        value=quantity.written(value),
        note=language.say("first version: {value}").format(value=quantity.written(first or 0.0))
        if beside
        else "",
        plot=panel(
            dots,
            name=f"panel-{quantity.term}",
            alt=f"{quantity.title}. {drawn}.",
            shown=quantity.written,
        )
        if len(dots) > 1
        else None,
    )


def timelines(story: Story, language: Language) -> list[Plot]:
    """Return the timeline, wide and narrow; nothing before a version went live."""
    starts = [span.start for version in story.versions for span in version.spans]
    if not starts:
        return []
    # What went live with the newest entry is seen, too.
    end = story.now + max((story.now - min(starts)) * 0.03, timedelta(seconds=1))
    bars = [
        Bar(
            row=version.place,
            start=span.start,
            end=span.end or end,
            live=span.end is None,
        )
        for version in story.versions
        for span in version.spans
    ]
    events = [
        Event(time=moment_of(entry.time), row=version.place, kind=_EVENTS[entry.action])
        for entry in story.entries
        if entry.action in _EVENTS and (version := story.version(entry.version)) is not None
    ]
    alt = language.say("Which version was live when. {spans}.").format(
        spans="; ".join(_spans(story, language))
    )
    axis = language.axis(min(starts), end, years=True)
    return [
        timeline(
            bars, events, rows=len(story.versions), narrow=narrow, alt=alt,
            name="timeline-narrow" if narrow else "timeline", shown=axis,
        )
        for narrow in (False, True)
    ]  # fmt: skip


def _spans(story: Story, language: Language) -> list[str]:
    said = language.say("version {number}: {span}")
    return [
        said.format(number=version.place, span=span_of(span.start, span.end, language))
        for version in story.versions
        for span in version.spans
    ]


def span_of(start: datetime, end: datetime | None, language: Language) -> str:
    """Return a span of days in words."""
    if end is None:
        return language.say("since {day}").format(day=language.short_day(start))
    return language.say("{start} to {end}").format(
        start=language.short_day(start), end=language.short_day(end)
    )


def saved_so_far(story: Story) -> tuple[float, str] | None:
    """Return the estimated cost of the first version minus that of the live ones, and currency.

    Only times during which a version with an estimate was live are counted.
    """
    total, currency, known = 0.0, "", False
    for version in story.versions:
        if version.measures.saved is None:
            continue
        for span in version.spans:
            months = ((span.end or story.now) - span.start) / MONTH
            total, known = total + months * version.measures.saved, True
            currency = version.measures.currency
    return (total, currency) if known else None


ACTIONS = {
    "init": mark("line begun"),
    "add": mark("added"),
    "promote": mark("went live"),
    "rollback": mark("rolled back"),
    "refuse": mark("refused"),
    "override": mark("overridden"),
    "canary": mark("canary"),
    "watch": mark("watched"),
    "alarm": mark("alarm"),
    "audit": mark("audited"),
    "shadow": mark("shadow"),
    "ab": mark("A/B test"),
    "note": mark("note"),
    "policy": mark("policy changed"),
    "sign": mark("signed"),
}
"""Action → what stands in the log."""
FOUND = ("watch", "alarm", "audit", "canary", "shadow", "ab")
"""Actions whose reason is what a program found, in its own words."""
RULES = {
    "bytes": mark("files"),
    "verdict": mark("verdict"),
    "data": mark("test data"),
    "max_loss": mark("loss"),
    "proof": mark("proof"),
    "parity": mark("parity"),
    "verdict_age_days": mark("age of the verdict"),
    "slices": mark("groups"),
    "flips": mark("changed answers"),
    "canary": mark("canary"),
    "shadow": mark("shadow"),
    "signers": mark("signatures"),
}
"""Rule of a policy → its name in words."""


def decisions(story: Story, most: int = 8) -> Sequence[Any]:
    """Return the newest entries that decided something, newest first."""
    decided = ("promote", "rollback", "refuse", "override", "alarm", "policy")
    return [entry for entry in reversed(story.entries) if entry.action in decided][:most]
