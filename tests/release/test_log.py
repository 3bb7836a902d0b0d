"""The log: what it holds, in one form, and what is named when a byte of it is not."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from helpers.lines import START, Ticking, kept
from ssmith.core.errors import ArtefactError, InputError, OutputExistsError
from ssmith.release import log
from ssmith.release.begin import init
from ssmith.release.disk import digest_of
from ssmith.release.line import Line


@pytest.fixture
def line(tmp_path):
    line = init(tmp_path / "line", clock=Ticking())
    for count in range(3):
        line.record("note", version=None, reason=f"läuft, №{count}", details={"share": 0.1 * count})
    return line


def test_an_entry_is_one_line_bound_to_the_one_before(line):
    lines = (line.path / "log.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b""
    contents = [json.loads(item) for item in lines]
    assert [item["action"] for item in contents] == ["init", "note", "note", "note"]
    assert [item["index"] for item in contents] == [0, 1, 2, 3]
    before = ["sha256:" + 64 * "0", *map(digest_of, lines)]
    assert [item["previous"] for item in contents] == before[:-1]
    assert line.head == before[-1]
    assert contents[1]["reason"] == "läuft, №0"
    assert not contents[0]["signed"]
    assert "@" in contents[0]["actor"]
    for item, text in zip(contents, lines, strict=True):
        canonical = json.dumps(
            item, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
        assert canonical == text


def test_what_is_recorded_comes_back(line):
    receipt = {"quality": {"loss": {"value": 0.1}}, "text": "grün"}
    made = line.record("watch", version=None, receipts=(receipt,), reason="a\nb", details={"n": 1})
    again = Line.open(line.path)
    assert again.entries()[-1] == made
    assert made.reason == "a b"
    assert kept(again, made.receipts[0]) == receipt
    assert again.name == "line"


@pytest.mark.parametrize("where", range(0, 2000, 13))
def test_a_flipped_byte_is_named_with_its_entry(line, where):
    content = bytearray((line.path / "log.jsonl").read_bytes())
    place = where % len(content)
    content[place] ^= 1 << where % 8
    index = bytes(content[:place]).count(b"\n")
    _, damages = log.read(bytes(content))
    assert damages[0].index in (index, index + 1), damages


def test_removed_moved_and_cut_entries_are_named(line):
    lines = (line.path / "log.jsonl").read_bytes().splitlines(keepends=True)
    for changed, index in (
        ([lines[0], lines[2], lines[3]], 1),
        ([lines[0], lines[2], lines[1], lines[3]], 1),
        ([lines[0], lines[1], lines[1], lines[2]], 2),
        ([*lines[1:]], 0),
        ([*lines[:3], lines[3][:-1]], 3),
        ([*lines[:3], lines[3][:40]], 3),
        ([], 0),
    ):
        _, damages = log.read(b"".join(changed))
        assert damages, changed
        assert damages[0].index == index


def test_a_log_without_its_last_entries_looks_whole_but_has_another_head(line):
    lines = (line.path / "log.jsonl").read_bytes().splitlines(keepends=True)
    head = line.head
    entries, damages = log.read(b"".join(lines[:-1]))
    assert not damages
    assert entries[-1].digest != head


def test_a_damaged_log_is_read_no_further(line):
    path = line.path / "log.jsonl"
    path.write_bytes(path.read_bytes().replace(b"share", b"shard", 1))
    with pytest.raises(ArtefactError, match="entry 1: it was changed"):
        Line.open(line.path).entries()
    with pytest.raises(ArtefactError, match="entry 1: it was changed"):
        Line.open(line.path).record("note", version=None)


def test_a_clock_that_runs_backwards_is_refused(line):
    line.clock = lambda: START - timedelta(days=1)
    before = (line.path / "log.jsonl").read_bytes()
    with pytest.raises(ArtefactError, match="runs backwards"):
        line.record("note", version=None)
    assert (line.path / "log.jsonl").read_bytes() == before
    # The same moment twice is no step back.
    line.clock = lambda: datetime(2031, 1, 1, tzinfo=UTC)
    line.record("note", version=None)
    line.record("note", version=None)


def test_what_only_commands_may_write_is_no_record(line):
    with pytest.raises(InputError, match="promote"):
        line.record("promote", version=None)


def test_no_line_and_one_too_many(line, tmp_path):
    with pytest.raises(InputError, match="release init"):
        Line.open(tmp_path)
    with pytest.raises(OutputExistsError, match="holds a line already"):
        init(line.path)
    with pytest.raises(OutputExistsError, match="is not empty"):
        init(tmp_path)
