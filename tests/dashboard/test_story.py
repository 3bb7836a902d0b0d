"""What a log tells: who was live when, what is open, what was saved."""

from datetime import UTC, datetime, timedelta

import pytest

from helpers.year import DENSE, Clock, look, make_year, model, watched
from ssmith.core.errors import InputError
from ssmith.dashboard import read_story
from ssmith.dashboard.health import ALARM, DAMAGED, EMPTY, HEALTHY, UNWATCHED, health_of
from ssmith.dashboard.looks import looks_of
from ssmith.dashboard.overview import saved_so_far
from ssmith.release.adding import keep
from ssmith.release.begin import init
from ssmith.release.policy import Policy, Promote
from ssmith.release.promotion import promote, rollback
from ssmith.release.version import COUNTS


def at(month, day):
    return datetime(2026, month, day, 9, tzinfo=UTC)


def test_spans_are_what_the_line_says_was_live(line, story):
    first, second, third = story.versions
    assert [(span.start, span.end) for span in first.spans] == [(at(1, 6), at(3, 3))]
    assert [(span.start, span.end) for span in second.spans] == [
        (at(3, 3), at(7, 11)), (at(7, 21), None),
    ]  # fmt: skip
    assert [(span.start, span.end) for span in third.spans] == [(at(7, 11), at(7, 21))]
    for version in story.versions:
        for span in version.spans:
            middle = span.start + ((span.end or at(12, 1)) - span.start) / 2
            assert line.at(middle).digest == version.digest


def test_states(story):
    assert [version.state for version in story.versions] == ["before", "live", "before"]
    assert story.live.place == 2
    assert len(story.overrides) == 1


def test_the_first_version_is_measured_by_what_was_made_from_it(story):
    first, second, _ = (version.measures for version in story.versions)
    assert (first.quality, first.size, first.latency) == (0.9833, 312_004, 0.00214)
    assert (second.quality, second.size) == (0.9806, 214_390)
    assert second.share_removed == pytest.approx(1 - 171 / 256)


def test_what_was_saved_is_the_estimate_times_the_months_it_was_live(story):
    days = sum(
        ((span.end or story.now) - span.start).days
        for version in story.versions[1:]
        for span in version.spans
    )
    amount, currency = saved_so_far(story)
    assert currency == "EUR"
    assert amount == pytest.approx(770.0 * days / (365.25 / 12))


def test_looks_are_read_in_order_with_the_worst_layer_first(story):
    looks = looks_of(story)
    assert [round(item.sites[0][1].times[0], 2) for item in looks] == [1.1, 6.4, 1.09, 1.11]
    assert [item.receipt.alarm for item in looks] == [False, True, False, False]
    size = looks[1].findings[0].size
    assert (size.value, size.low, size.high, size.unit) == (0.034, 0.021, 0.05, "points")
    assert looks[1].farthest("input") == 0.31


@pytest.fixture
def small_line(tmp_path):
    clock = Clock()
    line = init(tmp_path / "line", Policy(promote=Promote(parity=False)), clock=clock)
    version = keep(line, model(tmp_path / "models" / "dense", DENSE))

    def go(days=1):
        clock.now += timedelta(days=days)

    return line, version, go


def health(line):
    return health_of(read_story(line.path))


def test_health_follows_what_happens(small_line):
    line, version, go = small_line
    assert health(line) == EMPTY
    promote(line, version)
    assert health(line) == UNWATCHED
    watched(line, version, look(times=1.0, drift=0.0))
    assert health(line) == HEALTHY
    go()
    watched(line, version, look(times=5.0, drift=0.4))
    assert health(line) == ALARM
    go()
    watched(line, version, look(times=1.0, drift=0.0))
    assert health(line) == HEALTHY


def test_going_back_answers_an_alarm(tmp_path):
    line, clock = make_year(tmp_path / "line", tmp_path / "models")
    clock.to(12, 1)
    watched(line, line.live, look(times=5.0, drift=0.4))
    assert health(line) == ALARM
    rollback(line, reason="alarm")
    assert health(line) == UNWATCHED


@pytest.mark.parametrize("place", [0, 7, -1])
def test_a_damaged_log_is_told_and_not_hidden(tmp_path, place):
    line, _ = make_year(tmp_path / "line", tmp_path / "models")
    log = line.path / "log.jsonl"
    lines = log.read_bytes().splitlines()
    lines[place] = lines[place].replace(b'"reason":"', b'"reason":"x', 1)
    log.write_bytes(b"\n".join(lines) + b"\n")
    story = read_story(line.path)
    assert health_of(story) == DAMAGED
    assert f"log.jsonl, entry {place % len(lines)}" in {item.where for item in story.checked.faults}


def test_what_a_watch_counts_is_no_damage(tmp_path):
    line, _ = make_year(tmp_path / "line", tmp_path / "models")
    (line.path / COUNTS / "0123").mkdir(parents=True)
    assert health_of(read_story(line.path)) == HEALTHY


def test_no_line_is_an_error_with_the_next_step(tmp_path):
    with pytest.raises(InputError, match="release init"):
        read_story(tmp_path)
