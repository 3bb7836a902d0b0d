"""Long work in a log: an early estimate, then rare lines; short work leaves none."""

import io
import sys

import pytest

from ssmith.cli import output
from ssmith.cli.output import Output
from ssmith.cli.progress import Lines


class Log:
    """Plain progress by a clock that only the test moves."""

    def __init__(self):
        self.now, self.lines = 100.0, []
        self.progress = Lines(self.lines.append, clock=lambda: self.now)

    def work(self, seconds, *said):
        self.now += seconds
        self.progress(*said)


def test_work_that_is_done_within_seconds_leaves_no_line():
    log = Log()
    for done in range(8):
        log.work(1.5, "pruning blocks", done + 0.5, 8)
    log.work(1, "pruning blocks", 8, 8)
    log.work(3, "speed", 1, 1)
    log.work(2, "checking", 4, 8)
    log.work(2, "checking", 8, 8)
    assert log.lines == []


def test_an_estimate_comes_early_from_the_pace_within_the_first_part():
    log = Log()
    # Reading the model is not part of the pace.
    log.work(20, "pruning blocks", 0, 24, "layer 0")
    for batch in range(1, 7):
        log.work(1, "pruning blocks", batch / 10, 24, "layer 0")
    assert log.lines == ["pruning blocks: 0 of 24, about 4 min to go (layer 0)"]


def test_further_lines_are_rare_and_rarer_in_the_long_run():
    log = Log()
    for done in range(3600):
        log.work(10, "train", done, 3600)
    hours = [line for line in log.lines if " h to go" in line]
    assert 50 < len(log.lines) < 200
    assert hours
    log.work(10, "train", 3600, 3600)
    assert log.lines[-1] == "train: done"


def test_what_an_earlier_run_finished_does_not_count_for_the_pace():
    log = Log()
    log.work(4, "pruning blocks", 20, 24)
    log.work(60, "pruning blocks", 21, 24)
    assert log.lines == ["pruning blocks: 21 of 24, about 3 min to go"]
    log = Log()
    for done in (1, 2, 3):
        log.work(0.1, "sweep", done, 9)
    log.work(60, "sweep", 4, 9)
    assert log.lines == ["sweep: 4 of 9, about 5 min to go"]


def test_a_stage_that_tells_only_what_is_finished_has_no_pace_at_first():
    log = Log()
    log.work(60, "sweep", 1, 4)
    log.work(60, "sweep", 2, 4)
    assert log.lines == ["sweep: 1 of 4", "sweep: 2 of 4, about 2 min to go"]


def test_a_stage_may_begin_anew():
    log = Log()
    log.work(60, "pruning blocks", 3, 4)
    log.work(1, "pruning blocks", 0, 4)
    log.work(60, "pruning blocks", 1, 4)
    assert log.lines[-1] == "pruning blocks: 1 of 4, about 3 min to go"


@pytest.mark.parametrize(("as_json", "quiet"), [(False, False), (True, False), (False, True)])
def test_lines_go_to_stderr_and_only_if_wanted(monkeypatch, capsys, as_json, quiet):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log = Log()
    monkeypatch.setattr(output, "Lines", lambda write: Lines(write, clock=lambda: log.now))
    with Output(as_json=as_json, quiet=quiet).progress() as progress:
        log.now += 60
        progress("sweep", 1, 3, "two\nlines")
    said = "" if as_json or quiet else "sweep: 1 of 3 (two lines)\n"
    assert stream.getvalue() == said
    assert capsys.readouterr().out == ""
