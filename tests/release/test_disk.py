"""A disk that refuses at any write: one clear line, nothing changed, and it opens all the same."""

import errno
import os

import pytest

from helpers.killing import WRITES, state
from helpers.lines import Shelf, artefact
from ssmith.core.errors import ArtefactError, InputError
from ssmith.release import change, lock
from ssmith.release.adding import keep
from ssmith.release.begin import init
from ssmith.release.line import Line
from ssmith.release.promotion import promote, rollback
from ssmith.release.verify import verify


class Full:
    """A disk that has space for some writes and then for none."""

    def __init__(self, code):
        self.code, self.left, self.count = code, None, 0
        # What only takes away needs no space.
        self.names = set(WRITES) - {"unlink", "rmdir", "truncate", "rename"}
        if code == errno.EROFS:
            self.names = set(WRITES)

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name in self.names:
            self.patch.setattr(os, name, self._counting(getattr(os, name), name))
        return self

    def __exit__(self, *_):
        self.patch.undo()

    def _counting(self, real, name):
        def call(*given, **more):
            if name == "open" and not (len(given) > 1 and given[1] & (os.O_CREAT | os.O_WRONLY)):
                return real(*given, **more)
            self.count += 1
            if self.left is not None and self.count > self.left:
                raise OSError(self.code, os.strerror(self.code))
            return real(*given, **more)

        return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("action", ["add", "promote", "rollback", "note"])
def test_a_disk_that_refuses_changes_nothing(tmp_path, action, code):
    shelf = Shelf(tmp_path)
    versions = [shelf.add(text) for text in ("zero", "one", "two")]
    for version in versions[:2]:
        promote(shelf.line, version)
    new = artefact(tmp_path / "shelf" / "new", "new")
    run = {
        "add": lambda: keep(shelf.line, new),
        "promote": lambda: promote(shelf.line, versions[2]),
        "rollback": lambda: rollback(shelf.line),
        "note": lambda: shelf.line.record("note", version=None, receipts=({"a": 1},)),
    }[action]
    before = state(tmp_path)
    refused = 0
    for left in range(200):
        with Full(code) as disk:
            disk.left = left
            try:
                run()
            except ArtefactError as error:
                said = str(error)
            else:
                break
            # It opens and tells while the disk is as it is.
            again = Line.open(shelf.line.path)
            assert again.live is not None
        assert os.strerror(code) in said
        assert "\n" not in said
        refused += 1
        ended = state(tmp_path)
        if "when the line is opened next" in said:
            # The change itself was done, or could not be put back: opening it has done that.
            assert ("is in the log" not in said) or ended != before
            if ended != before:
                break
            continue
        assert "nothing was changed" in said
        assert ended == before, (left, said)
    assert refused > 3
    assert verify(Line.open(shelf.line.path)).passed


def test_a_first_write_that_is_refused_leaves_no_line(tmp_path):
    for left in range(100):
        with Full(errno.ENOSPC) as disk:
            disk.left = left
            try:
                init(tmp_path / "line")
            except ArtefactError as error:
                if "is in the log" not in str(error):
                    continue
            break
    assert left > 3
    line = Line.open(tmp_path / "line")
    assert [item.action for item in line.entries()] == ["init"]
    assert verify(line).passed


def test_a_line_that_nobody_may_write_is_read(tmp_path):
    shelf = Shelf(tmp_path)
    promote(shelf.line, shelf.add("one"))
    with Full(errno.EROFS) as disk:
        disk.left = 0
        line = Line.open(shelf.line.path)
        assert line.live.name == "one"
        assert verify(line).passed


def test_permissions_follow_the_umask(tmp_path):
    for umask in (0o022, 0o002, 0o077):
        before = os.umask(umask)
        try:
            shelf = Shelf(tmp_path / f"{umask:o}")
            promote(shelf.line, shelf.add("one", base=None))
            shelf.line.record("note", version=None, receipts=({"a": 1},))
        finally:
            os.umask(before)
        for item in shelf.line.path.rglob("*"):
            full = 0o777 if item.is_dir() else 0o666
            assert item.stat().st_mode & 0o777 == full & ~umask, item


def test_a_directory_that_is_no_line_is_left_alone(tmp_path):
    (tmp_path / "staging").mkdir()
    (tmp_path / "staging" / "mine").write_text("mine")
    with pytest.raises(InputError, match="no line"):
        Line.open(tmp_path)
    assert {item.name for item in tmp_path.rglob("*")} == {"staging", "mine"}


def test_a_journal_of_nobody_is_named(tmp_path):
    shelf = Shelf(tmp_path)
    (shelf.line.path / change.JOURNAL).write_text('{"size": 0}')
    with pytest.raises(ArtefactError, match="no journal of a change"):
        Line.open(shelf.line.path)
    for outside in ("../../mine", "/etc/passwd"):
        (shelf.line.path / change.JOURNAL).write_text(
            f'{{"size": 9, "entry": "x", "new": [["{outside}", "live"]], "exchanged": []}}'
        )
        with pytest.raises(ArtefactError, match="no journal of a change"):
            Line.open(shelf.line.path)


def test_a_lock_is_of_this_moment_only(tmp_path):
    shelf = Shelf(tmp_path)
    # Whoever wrote it is gone; its file alone locks nobody out.
    (shelf.line.path / lock.LOCK).write_text("add by somebody, process 1")
    shelf.add("one")
