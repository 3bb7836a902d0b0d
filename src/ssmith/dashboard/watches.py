"""The page of watches: whether the live version still does what it promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ssmith.dashboard.health import last_watch, open_alarm
from ssmith.dashboard.story import Story, moment_of
from ssmith.dashboard.words import Words
from ssmith.release.log import Entry

_LOOKS = ("watch", "alarm")


@dataclass(frozen=True, kw_only=True)
class Watches:
    """What the page of watches shows.

    Args:
        lead: its first sentence.
        looks: entries of watches and alarms, the newest first.
    """

    lead: Any
    looks: tuple[Entry, ...]


def watches_of(story: Story, words: Words) -> Watches:
    """Return what the page of watches shows."""
    looks = tuple(entry for entry in reversed(story.entries) if entry.action in _LOOKS)
    return Watches(lead=_lead(story, words), looks=looks)


def _lead(story: Story, words: Words) -> Any:
    day, alarm = words.language.day, open_alarm(story)
    if alarm is not None:
        return words.say("An [[alarm|alarm]] of {name} has been open since {day}.").format(
            name=story.name, day=day(moment_of(alarm.time))
        )
    newest = last_watch(story)
    if newest is None:
        return words.say(
            "The [[live|live]] version of {name} has not been [[watch|watched]] yet."
        ).format(name=story.name)
    return words.say(
        "The last [[watch|watch]] of {name}, on {day}, found nothing beyond its limits."
    ).format(name=story.name, day=day(moment_of(newest.time)))
