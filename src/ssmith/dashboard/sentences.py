"""The first line of each page: a sentence that can be repeated in a meeting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssmith.dashboard.health import ALARM, DAMAGED, EMPTY, health_of, open_alarm
from ssmith.dashboard.measures import Measures
from ssmith.dashboard.story import Story, VersionStory, moment_of
from ssmith.dashboard.values import difference, metric_name, quality
from ssmith.dashboard.words import Words


def lines_lead(stories: Sequence[Story], words: Words) -> Any:
    """Say how many lines need attention."""
    grave = [story for story in stories if health_of(story) in (DAMAGED, ALARM)]
    if grave:
        return words.many(
            "{count} of {all} [[line|lines]] needs attention: {names}.",
            "{count} of {all} [[line|lines]] need attention: {names}.",
            len(grave),
        ).format(
            all=words.language.number(len(stories), digits=9),
            names=", ".join(story.name for story in grave),
        )
    empty = [story for story in stories if health_of(story) is EMPTY]
    if empty:
        return words.say("No alarm is open; nothing is [[live|live]] yet in {names}.").format(
            names=", ".join(story.name for story in empty)
        )
    return words.many(
        "The one [[line|line]] here has no open [[alarm|alarm]].",
        "None of the {count} [[line|lines]] has an open [[alarm|alarm]].",
        len(stories),
    )


def line_lead(story: Story, words: Words) -> Any:
    """Say what is live, since when, and what it brings."""
    live, say = story.live, words.say
    if live is None:
        return say("Nothing is [[live|live]] in {name} yet.").format(name=story.name)
    named = {
        "number": live.place, "name": story.name, "day": words.language.day(live.spans[-1].start),
    }  # fmt: skip
    smaller = _smaller(story, live)
    if live.measures.difference is not None and smaller is not None:
        return say(
            "[[version|Version]] {number} of {name} has been [[live|live]] since {day}; it takes "
            "{smaller} less space than the first version, and {metric} differs by {difference} "
            "from the model it was made from."
        ).format(
            **named,
            smaller=words.language.percent(smaller, 0),
            metric=words.language.say(metric_name(live.measures)),
            difference=difference(live.measures, words.language),
        )
    if live.measures.quality is not None:
        return say(
            "[[version|Version]] {number} of {name} has been [[live|live]] since {day}, with "
            "{metric} of {value} on the test data."
        ).format(
            **named,
            metric=words.language.say(metric_name(live.measures)),
            value=quality(live.measures, words.language),
        )
    return say("[[version|Version]] {number} of {name} has been [[live|live]] since {day}.").format(
        **named
    )


def warning(story: Story, words: Words) -> Any:
    """Say that something is damaged or an alarm is open, or nothing."""
    if story.checked.faults:
        return audit_lead(story, words)
    alarm = open_alarm(story)
    if alarm is None:
        return ""
    return words.say("An [[alarm|alarm]] has been open since {day}.").format(
        day=words.language.day(moment_of(alarm.time))
    )


def version_lead(story: Story, version: VersionStory, words: Words) -> Any:
    """Say what became of a version."""
    say, language = words.say, words.language
    named = {"number": version.place, "name": story.name}
    if version.state == "live":
        return line_lead(story, words)
    if version.state == "before":
        last = version.spans[-1]
        return say(
            "[[version|Version]] {number} of {name} was [[live|live]] until {day}; it is kept and "
            "can return in one command."
        ).format(**named, day=language.day(last.end or last.start))
    if version.state == "refused":
        refusal = next(entry for entry in reversed(version.entries) if entry.action == "refuse")
        return say(
            "[[version|Version]] {number} of {name} was [[refused|refused]] on {day} and has never "
            "been [[live|live]]."
        ).format(**named, day=language.day(moment_of(refusal.time)))
    return say(
        "[[version|Version]] {number} of {name} was added on {day} and is [[waiting|waiting]]."
    ).format(**named, day=language.day(moment_of(version.added.time)))


def audit_lead(story: Story, words: Words) -> Any:
    """Say whether the log is whole, and how often a rule was overridden."""
    faults = story.checked.faults
    if faults:
        return words.many(
            "{count} thing is wrong with {name}: {where}.",
            "{count} things are wrong with {name}, the first: {where}.",
            len(faults),
        ).format(name=story.name, where=faults[0].where)
    if story.overrides:
        return words.many(
            "The [[log|log]] of {name} is whole; the [[policy|policy]] was "
            "[[override|overridden]] once.",
            "The [[log|log]] of {name} is whole; the [[policy|policy]] was "
            "[[override|overridden]] {count} times.",
            len(story.overrides),
        ).format(name=story.name)
    return words.say(
        "The [[log|log]] of {name} is whole, and no rule of the [[policy|policy]] was overridden."
    ).format(name=story.name)


def _smaller(story: Story, live: VersionStory) -> float | None:
    """Return by what share the live version is smaller than the first, if it is."""
    first: Measures = story.versions[0].measures
    if not first.size or live.measures.size is None or live.measures.size >= first.size:
        return None
    return 1 - live.measures.size / first.size
