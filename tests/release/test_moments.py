"""Times: read in any zone, written in UTC so that texts sort as moments do."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmith.core.errors import InputError
from ssmith.release.moments import moment_of, parsed, written

MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(MOMENTS, ZONES, MOMENTS, ZONES)
def test_texts_sort_as_moments_do_whatever_their_zones(first, its_zone, second, other_zone):
    one, two = first.replace(tzinfo=its_zone), second.replace(tzinfo=other_zone)
    assert (written(one) < written(two)) == (one < two)
    assert parsed(written(one)) == one
    assert moment_of(one.isoformat()) == one


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-11-01T09:00+09:00", 0),
        ("2026-11-01T00:00Z", 0),
        ("2026-11-01 00:00+00:00", 0),
        ("2026-11-01T09:00 Asia/Tokyo", 0),
        ("2026-11-01 09:00 Asia/Tokyo", 0),
        ("2026-11-01T00:30-04:30", 5),
        # Before and after the hour that New York has twice on this day.
        ("2026-11-01T00:59 America/New_York", 4),
        ("2026-11-01T12:00 America/New_York", 17),
    ],
)
def test_any_zone_is_read(text, hour):
    moment = moment_of(text)
    assert moment.tzinfo == UTC
    assert (moment.day, moment.hour) == (1, hour)


@pytest.mark.parametrize("text", ["2026-11-01T09:00", "2026-11-01", "2026-11-01 09:00"])
def test_a_time_without_a_zone_is_ambiguous(text):
    with pytest.raises(InputError, match="says no time zone") as caught:
        moment_of(text)
    suggested = str(caught.value).rsplit(" ", 1)[1].rstrip(".")
    assert moment_of(suggested).day == 1


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01T00:00Z", "2026-11-01T09:00 Mars/Base", "9 o'clock",
             "0001-01-01T00:00+14:00", "2026-11-01T09:00 ../../etc/passwd"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InputError, match="cannot be read"):
        moment_of(text)
