"""The pages of all lines and of one line: what is live, how it came to be, what each version costs."""

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
    """One small multiple.

    Args:
        term: key of the glossary.
        title: what is drawn, in words.
        value: of the live version.
        note: the value of the first version, or that there is no other.
        plot: the drawing; None if fewer than two versions have a value.
    """

    term: str
    title: str
    value: str
    note: str
    plot: Plot | None


def panels(story: Story, language: Language) -> list[Panel]:
    """Return quality, size, latency and cost of every version, as far as they are known."""
    shown = story.live or story.versions[-1]
    metric = shown.measures.metric
    name = language.gettext(metric_name(shown.measures))
    currency = shown.measures.currency
    return [
        found
        for found in (
            _panel(story, shown, "quality", _titled(name), quality_format(metric, language),
                   language, lambda v: v.measures.quality if v.measures.metric == metric else None),
            _panel(story, shown, "size", language.say("Size on disk"), language.size, language,
                   lambda version: version.measures.size),
            _panel(story, shown, "latency", language.say("Latency per batch"), language.seconds,
                   language, lambda version: version.measures.latency),
            _panel(story, shown, "cost", language.say("Cost per month, estimated"),
                   lambda value: language.money(value, currency), language,
                   lambda v: v.measures.cost if v.measures.currency == currency else None),
        )
        if found is not None
    ]  # fmt: skip


def _titled(name: str) -> str:
    return name[:1].upper() + name[1:]


def _panel(
    story: Story,
    shown: VersionStory,
    term: str,
    title: str,
    render: Callable[[float], str],
    language: Language,
    read: Callable[[VersionStory], float | None],
) -> Panel | None:
    dots = [
        Dot(
            place=version.place,
            value=value,
            interval=version.measures.interval if term == "quality" else None,
            state=version.state,
        )
        for version in story.versions
        if (value := read(version)) is not None
    ]
    value = read(shown)
    if value is None:
        return None
    first = read(story.versions[0])
    drawn = ", ".join(f"{dot.place}: {render(dot.value)}" for dot in dots)
    return Panel(
        term=term,
        title=title,
        value=render(value),
        note=""
        if first is None or shown is story.versions[0]
        else language.say("first version: {value}", value=render(first)),
        plot=panel(dots, name=f"panel-{term}", alt=f"{title}. {drawn}.", shown=render)
        if len(dots) > 1
        else None,
    )


def timelines(story: Story, language: Language) -> list[Plot]:
    """Return the timeline, wide and narrow; nothing before a version went live."""
    bars = [
        Bar(
            row=version.place,
            start=span.start,
            end=span.end or story.now,
            live=span.end is None,
        )
        for version in story.versions
        for span in version.spans
    ]
    if not bars:
        return []
    events = [
        Event(time=moment_of(entry.time), row=version.place, kind=_EVENTS[entry.action])
        for entry in story.entries
        if entry.action in _EVENTS and (version := story.version(entry.version)) is not None
    ]
    alt = language.say(
        "Which version was live when. {spans}.", spans="; ".join(_spans(story, language))
    )
    return [
        timeline(
            bars, events, rows=len(story.versions), narrow=narrow, alt=alt,
            name="timeline-narrow" if narrow else "timeline", shown=language.short_day,
        )
        for narrow in (False, True)
    ]  # fmt: skip


def _spans(story: Story, language: Language) -> list[str]:
    return [
        language.say("version {number}: {span}", number=version.place, span=span_of(span.start,
                     span.end, language))
        for version in story.versions
        for span in version.spans
    ]  # fmt: skip


def span_of(start: datetime, end: datetime | None, language: Language) -> str:
    """Return a span of days in words."""
    if end is None:
        return language.say("since {day}", day=language.short_day(start))
    return language.say(
        "{start} to {end}", start=language.short_day(start), end=language.short_day(end)
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
}
"""Action → what stands in the log's table."""


def decisions(story: Story, most: int = 8) -> Sequence[Any]:
    """Return the newest entries that decided something, newest first."""
    decided = ("promote", "rollback", "refuse", "override", "alarm", "policy")
    return [entry for entry in reversed(story.entries) if entry.action in decided][:most]
