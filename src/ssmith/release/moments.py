"""Times of a log: written in UTC, read in any time zone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from ssmith.core.errors import InputError

Clock = Callable[[], datetime]

_FORM = "%Y-%m-%dT%H:%M:%S.%fZ"
_ALLOWED = "2026-11-01T09:00+09:00, 2026-11-01T00:00Z, or '2026-11-01T09:00 Asia/Tokyo'"


def now() -> datetime:
    """Return the time by the clock of this machine, in UTC."""
    return datetime.now(UTC)


def written(moment: datetime) -> str:
    """Return a time as a log holds it; of two times the earlier one is the smaller text."""
    return moment.astimezone(UTC).strftime(_FORM)


def parsed(text: str) -> datetime:
    """Return the time that a log holds; raises `ValueError` where it is in another form."""
    moment = datetime.fromisoformat(text)
    if written(moment) != text:
        raise ValueError(f"the time {text!r} is in another form")
    return moment


def moment_of(text: str) -> datetime:
    """Return the time, in UTC, that somebody means: ISO 8601 with an offset or a time zone.

    Raises `InputError` if it is no time, or says no time zone.
    """
    said, _, zone = text.strip().rpartition(" ")
    try:
        if zone[:1].isalpha():
            moment = datetime.fromisoformat(said.strip()).replace(tzinfo=ZoneInfo(zone))
        else:
            moment = datetime.fromisoformat(text.strip())
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"the time {text!r} cannot be read", allowed=_ALLOWED) from error
    if moment.tzinfo is None:
        raise InputError(
            f"the time {text!r} says no time zone",
            allowed=_ALLOWED,
            next_step=f"if it is in UTC, write {moment.isoformat()}Z",
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InputError(f"the time {text!r} cannot be read", allowed=_ALLOWED) from error
