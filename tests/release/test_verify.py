"""One flipped byte anywhere in a line is named; so is what was added, removed, moved or forged."""

import json
import random
import shutil

import pytest

from helpers.lines import Shelf, artefact, paper, receipt, relaxed, tensors_of
from ssmith.core.errors import ArtefactError
from ssmith.release import log
from ssmith.release.adding import keep, keep_profile
from ssmith.release.consent import change_policy
from ssmith.release.line import Line
from ssmith.release.lineage import lineage_of
from ssmith.release.promotion import promote, rollback
from ssmith.release.verify import verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A line with everything a line can hold."""
    shelf = Shelf(tmp_path_factory.mktemp("whole"))
    line = shelf.line
    dense = shelf.add("dense", receipt("dense"))
    small = shelf.add("small", receipt("small"), parent="dense")
    base = artefact(shelf.place / "shelf" / "base", "base")
    tuned = artefact(shelf.place / "shelf" / "tuned", "tuned", base=base, parent="base")
    adapter = keep(line, tuned, papers=[paper(shelf.place / "t.json", receipt("tuned"))])
    for version in (dense, small, adapter):
        promote(line, version)
    (shelf.place / "profile").mkdir()
    (shelf.place / "profile" / "inputs.json").write_text('{"quantiles": [0, 1]}')
    keep_profile(line, small, shelf.place / "profile")
    line.record(
        "watch", version=small, receipts=({"action": "watch"},), details={"alarm": False},
        beside={"watch/1f/stream.safetensors": bytes(range(99))},
    )  # fmt: skip
    change_policy(line, relaxed(flips="2%"), reason="June")
    rollback(line)
    return line


@pytest.fixture
def line(whole, tmp_path):
    shutil.copytree(whole.path, tmp_path / "line", symlinks=True)
    return Line.open(tmp_path / "line")


def places(line):
    names = [item for item in sorted(line.path.rglob("*")) if item.is_file()]
    return [item for item in names if not item.is_symlink() and item.name != ".ssmith-lock"]


def test_a_whole_line_passes(line):
    found = verify(line)
    assert found.faults == ()
    assert found.entries == len(line.entries())
    assert found.versions == 4
    assert found.files == 4 * 3
    assert found.head == line.head


def test_a_flipped_byte_in_any_file_is_named(line):
    draw = random.Random(0)
    # The base of the adapter counts as well, and what a version shares with none.
    assert {item.parts[len(line.path.parts)] for item in places(line)} == {
        "line.json", "log.jsonl", "manifests", "profiles", "receipts", "versions", "watch",
    }  # fmt: skip
    for path in places(line):
        content = path.read_bytes()
        sampled = {0, len(content) - 1, *(draw.randrange(len(content)) for _ in range(3))}
        for place in sampled:
            changed = bytearray(content)
            changed[place] ^= 1 << draw.randrange(8)
            path.write_bytes(changed)
            found = verify(Line(path=line.path))
            name = path.relative_to(line.path).as_posix()
            assert any(fault.where.startswith(name) for fault in found.faults), (name, place)
            if name == "log.jsonl":
                index = content[:place].count(b"\n")
                said = {f"log.jsonl, entry {number}" for number in (index, index + 1)}
                assert said & {fault.where for fault in found.faults}
        path.write_bytes(content)
    assert verify(Line(path=line.path)).passed


def test_what_was_removed_added_or_pointed_elsewhere_is_named(line):
    for path in [*places(line), line.path / "live", *line.path.glob("versions/*/base")]:
        if path.name in ("log.jsonl",):
            continue
        held = path.readlink() if path.is_symlink() else path.read_bytes()
        path.unlink()
        name = path.relative_to(line.path).as_posix()
        assert name in {fault.where for fault in verify(line).faults}
        if isinstance(held, bytes):
            path.write_bytes(held)
        else:
            path.symlink_to("../versions")
            assert name in {fault.where for fault in verify(line).faults}
            path.unlink()
            path.symlink_to(held)
    room = next(line.path.glob("versions/*"))
    for new in (
        line.path / "mine", line.path / "versions" / "x", line.path / "receipts" / "x.json",
        line.path / "manifests" / "x.json", line.path / "profiles" / "x", room / "x",
        room / "deep" / "x", line.path / "watch" / "1f" / "x",
    ):  # fmt: skip
        new.write_text("new")
        assert new.relative_to(line.path).as_posix() in {it.where for it in verify(line).faults}
        new.unlink()
    shutil.rmtree(room)
    assert any(fault.where.startswith(f"versions/{room.name}") for fault in verify(line).faults)


def test_a_file_in_the_place_of_a_link_is_named(line):
    (line.path / "live").unlink()
    (line.path / "live").mkdir()
    assert [item.where for item in verify(line).faults] == ["live"]


def rewritten(line, change):
    """Write the log anew after a change, with a chain that fits: what a forger would do."""
    contents = [json.loads(item) for item in (line.path / "log.jsonl").read_bytes().splitlines()]
    contents = change(contents) or contents
    previous, lines = log.START, []
    for index, content in enumerate(contents):
        content |= {"index": index, "previous": previous, "receipts": tuple(content["receipts"])}
        entry = log.Entry(**{**content, "signatures": tuple(content["signatures"])})
        lines.append(entry.line() + b"\n")
        previous = entry.digest
    (line.path / "log.jsonl").write_bytes(b"".join(lines))


def test_a_log_that_was_cut_off_or_written_anew_shows_against_its_head(line):
    head, count = line.head, len(line.entries())
    assert verify(line, expect=head).since == 0
    line.record("note", version=None, reason="later")
    later = verify(line, expect=head)
    assert later.passed
    assert later.since == 1
    lines = (line.path / "log.jsonl").read_bytes().splitlines(keepends=True)
    (line.path / "log.jsonl").write_bytes(b"".join(lines[: count - 2]))
    cut = verify(Line(path=line.path), expect=head)
    assert any("cut off" in fault.text for fault in cut.faults)


def test_a_forged_reason_passes_the_chain_and_fails_the_head(line):
    head = line.head
    rewritten(line, lambda contents: contents[3].update(reason="nobody did"))
    assert verify(Line(path=line.path)).passed
    assert not verify(Line(path=line.path), expect=head).passed


def test_a_promotion_that_its_own_rules_forbid_is_named(line):
    def change(contents):
        index = next(i for i, item in enumerate(contents) if item["action"] == "promote")
        contents[index]["details"]["rules"] = [{"name": "proof", "passed": False}]

    rewritten(line, change)
    assert any("although proof" in item.text for item in verify(Line(path=line.path)).faults)


def test_an_entry_about_no_version_and_a_rollback_to_what_never_was(line):
    def change(contents):
        contents[-1]["version"] = "sha256:" + 64 * "0"

    rewritten(line, change)
    texts = {item.text for item in verify(Line(path=line.path)).faults}
    assert any("was not added before" in text for text in texts)
    assert any("was never live" in text for text in texts)


def test_lineage_is_followed_and_its_end_is_said(line):
    versions = {item.name: item for item in line.versions()}
    every = line.versions()

    def way(name):
        found = lineage_of(versions[name], every)
        return [item.name for item in found.versions], found.whole

    assert way("dense") == (["dense"], True)
    assert way("small") == (["small", "dense"], True)
    assert way("tuned") == (["tuned", "base"], True)
    lost = keep(line, artefact(line.path.parent / "lost", "lost", parent="elsewhere"))
    found = lineage_of(lost, line.versions())
    assert not found.whole
    assert tensors_of("elsewhere")[:12] in found.text
    assert "not in this line" in found.text
    assert verify(line).passed


def test_a_receipt_that_was_changed_is_not_read(line):
    small = next(item for item in line.versions() if item.name == "small")
    path = line.path / "receipts" / f"{small.added.receipts[0].removeprefix('sha256:')}.json"
    path.write_text(path.read_text().replace("pilot", "pivot"))
    with pytest.raises(ArtefactError, match="was changed"):
        small.receipt  # noqa: B018
