"""The page of watches: whether the live version still does what it promised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ssmith.core.looks import FoundSize
from ssmith.dashboard.charts import Step, series
from ssmith.dashboard.health import last_watch, open_alarm
from ssmith.dashboard.language import Language, mark
from ssmith.dashboard.looks import Look, looks_of
from ssmith.dashboard.overview import Panel
from ssmith.dashboard.story import Story
from ssmith.dashboard.values import METRICS, quality_format
from ssmith.dashboard.words import Words

KINDS = {
    "cut": mark("the cut"),
    "input": mark("inputs"),
    "output": mark("answers"),
    "quality": mark("quality"),
    "speed": mark("speed"),
    "coverage": mark("coverage"),
}
"""Kind of a finding → what it is about."""


@dataclass(frozen=True, kw_only=True)
class Watches:
    """What the page of watches shows: its first sentence, and all looks, the newest first.

    ``alarm`` is the look whose alarm is open, ``newest`` of the live version, or of the one that
    was watched last.
    """

    lead: Any
    alarm: Look | None
    looks: tuple[Look, ...]
    newest: Look | None
    panels: tuple[Panel, ...]


def watches_of(story: Story, words: Words) -> Watches:
    """Return what the page of watches shows."""
    looks = looks_of(story)
    opened = open_alarm(story)
    alarm = next((item for item in looks if item.entry is opened), None)
    about = alarm.entry.version if alarm else story.live.digest if story.live else None
    own = [item for item in looks if item.entry.version == about]
    newest = own[-1] if own else looks[-1] if looks else None
    return Watches(
        lead=_lead(story, alarm, newest, words),
        alarm=alarm,
        looks=looks[::-1],
        newest=newest,
        panels=tuple(_panels(looks, words.language)),
    )


def _lead(story: Story, alarm: Look | None, newest: Look | None, words: Words) -> Any:
    """Say whether something is beyond its limits, and how large it is."""
    language = words.language
    if alarm is not None:
        named = {"name": story.name, "day": language.day(alarm.time)}
        times = _worst(alarm)
        if alarm.alarms("cut") and times:
            return words.say(
                "[[alarm|Alarm]] in {name} since {day}: what was [[removed|removed]] from the "
                "model would matter {times} as much on today's data as it did at release."
            ).format(**named, times=language.times(times[0]))
        if alarm.alarms("quality") and alarm.quality is not None:
            metric = alarm.quality.metric
            shown = quality_format(metric, language)
            return words.say(
                "[[alarm|Alarm]] in {name} since {day}: {metric} is {now}, and {promised} was "
                "[[promise|promised]]."
            ).format(
                **named,
                metric=language.say(METRICS.get(metric, metric)),
                now=shown(alarm.quality.now),
                promised=shown(alarm.quality.promised),
            )
        return words.say(
            "[[alarm|Alarm]] in {name} since {day}: a [[watch|watch]] found something beyond its "
            "limits."
        ).format(**named)
    if newest is None or last_watch(story) is None:
        return words.say(
            "The [[live|live]] version of {name} has not been [[watch|watched]] yet."
        ).format(name=story.name)
    named = {"name": story.name, "day": language.day(newest.time)}
    times = _worst(newest)
    if times:
        return words.say(
            "The last [[watch|watch]] of {name}, on {day}, was quiet: what was [[removed|removed]] "
            "from the model matters {times} as much as it did at release."
        ).format(**named, times=language.times(times[0]))
    return words.say(
        "The last [[watch|watch]] of {name}, on {day}, was quiet: nothing was beyond its limits."
    ).format(**named)


def _worst(look: Look) -> tuple[float, float, float] | None:
    """Return how many times as much as at release the worst site costs, with its interval."""
    return next((site.times for _, site in look.sites), None)


@dataclass(frozen=True, kw_only=True)
class _Course:
    """Something over time: term, title, how it is written, what is drawn, and its limit."""

    term: str
    title: str
    written: Callable[[float], str]
    steps: Sequence[Step]
    limit: float | None
    note: str


def _panels(looks: Sequence[Look], language: Language) -> list[Panel]:
    courses = (
        _cut(looks, language),
        _quality(looks, language),
        _distance(looks, "input", language),
        _distance(looks, "output", language),
    )
    return [_panel(item, language) for item in courses if item is not None and item.steps]


def _panel(course: _Course, language: Language) -> Panel:
    last = course.steps[-1]
    drawn = "; ".join(
        f"{language.short_day(step.time)}: {course.written(step.value)}" for step in course.steps
    )
    return Panel(
        term=course.term,
        title=course.title,
        value=course.written(last.value),
        note=course.note,
        plot=series(
            course.steps,
            limit=course.limit,
            name=f"watch-{course.term}",
            alt=f"{course.title}. {drawn}.",
            shown=course.written,
            day=language.axis(course.steps[0].time, last.time, years=False),
        )
        if len(course.steps) > 1
        else None,
    )


def _cut(looks: Sequence[Look], language: Language) -> _Course:
    steps = [
        Step(
            time=look.time,
            value=times[0],
            interval=times[1:],
            alarm=look.alarms("cut"),
        )
        for look in looks
        if (times := _worst(look)) is not None
    ]
    return _Course(
        term="cut-drift",
        title=language.say("Cut drift, against release"),
        written=language.times,
        steps=steps,
        limit=1.0,
        note=language.say("dotted: as at release"),
    )


def _quality(looks: Sequence[Look], language: Language) -> _Course | None:
    judged = [(look, look.quality) for look in looks if look.quality is not None]
    if not judged:
        return None
    metric, promised = judged[-1][1].metric, judged[-1][1].promised
    shown = quality_format(metric, language)
    name = language.say(METRICS.get(metric, metric))
    return _Course(
        term="promise",
        title=name[:1].upper() + name[1:],
        written=shown,
        steps=[
            Step(time=look.time, value=found.now, alarm=look.alarms("quality"))
            for look, found in judged
            if found.metric == metric
        ],
        limit=promised,
        note=language.say("promised (dotted): {value}").format(value=shown(promised)),
    )


def _distance(looks: Sequence[Look], kind: str, language: Language) -> _Course:
    title = {
        "input": language.say("Input drift, share of rows"),
        "output": language.say("Output drift, share of rows"),
    }[kind]
    return _Course(
        term=f"{kind}-drift",
        title=title,
        written=lambda value: language.percent(value, 0),
        steps=[
            Step(time=look.time, value=value, alarm=look.alarms(kind))
            for look in looks
            if (value := look.farthest(kind)) is not None
        ],
        limit=looks[-1].least if looks else None,
        note=language.say("no alarm below the dotted line"),
    )


def size_of(size: FoundSize | None, language: Language) -> str:
    """Return how large a finding is, in its unit; nothing without an interval."""
    if size is None or size.low is None or size.high is None:
        return ""
    # Losses of shares and relative ones are stored as fractions.
    factor = 100.0 if size.unit in ("points", "%") else 1.0
    value, low, high = (language.number(factor * end) for end in (size.value, size.low, size.high))
    named = {"points": language.say("points"), "units": ""}.get(size.unit, size.unit)
    said = language.say("{value} {unit} ({low} to {high})")
    return said.format(value=value, unit=named, low=low, high=high).replace("  ", " ")
