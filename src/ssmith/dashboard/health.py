"""Whether a line needs somebody's attention."""

from __future__ import annotations

from dataclasses import dataclass

from ssmith.dashboard.language import mark
from ssmith.dashboard.story import Story
from ssmith.release.log import LIVE, Entry


@dataclass(frozen=True)
class Health:
    """The state of a line in a word, and its tone: ``passed``, ``failed`` or ``open``."""

    tone: str
    word: str


DAMAGED = Health("failed", mark("damaged"))
ALARM = Health("failed", mark("alarm"))
EMPTY = Health("open", mark("nothing live"))
UNWATCHED = Health("open", mark("not watched"))
HEALTHY = Health("passed", mark("healthy"))


def health_of(story: Story) -> Health:
    """Return the gravest thing there is to say of a line."""
    if not story.checked.passed:
        return DAMAGED
    if story.live is None:
        return EMPTY
    if open_alarm(story) is not None:
        return ALARM
    return HEALTHY if last_watch(story) is not None else UNWATCHED


def last_watch(story: Story) -> Entry | None:
    """Return the newest watch of the live version since it went live."""
    for entry in reversed(story.entries):
        if entry.action in LIVE:
            return None
        if entry.action == "watch" and story.live and entry.version == story.live.digest:
            return entry
    return None


def open_alarm(story: Story) -> Entry | None:
    """Return the alarm that nothing has answered: no later quiet watch, no other version live."""
    alarm: Entry | None = None
    for entry in story.entries:
        if entry.action == "alarm":
            alarm = entry
        elif entry.action in LIVE or (entry.action == "watch" and is_quiet(entry)):
            alarm = None
    return alarm


def is_quiet(entry: Entry) -> bool:
    """Whether a watch found nothing beyond its limits."""
    return not entry.details.get("alarm") and not entry.details.get("alarms")
