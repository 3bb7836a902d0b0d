"""Directories that are ours are whole or absent; nobody else's file is ever lost."""

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from ssmith.core import directories
from ssmith.core.directories import (
    listed_in,
    new_directory,
    refuse_existing,
    strangers_in,
    write_manifest,
)
from ssmith.core.errors import ArtefactError, OutputExistsError
from ssmith.core.files import writing


class Stopped(BaseException):
    """What a kill looks like from inside: no ordinary exception."""


def names(directory):
    return sorted(item.name for item in directory.iterdir())


def prepare(path, before):
    if before in ("empty", "full"):
        path.mkdir()
    if before == "full":
        (path / "old").write_text("old")
        write_manifest(path)


def test_refuse_existing(tmp_path):
    refuse_existing(tmp_path / "free", overwrite=False)
    (tmp_path / "empty").mkdir()
    refuse_existing(tmp_path / "empty", overwrite=False)
    (tmp_path / "file").write_text("x")
    prepare(tmp_path / "full", "full")
    for occupied in (tmp_path / "full", tmp_path / "file"):
        refuse_existing(occupied, overwrite=True)
        with pytest.raises(OutputExistsError, match="--overwrite"):
            refuse_existing(occupied, overwrite=False)


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.tex": "mine"},
        {"manifest.json": "{}", "thesis.tex": "mine"},
        {"manifest.json": "[", "thesis.tex": "mine"},
        {"manifest.json": '{"files": {"thesis.tex": {}}}', "thesis.tex": "mine"},
        {"adapter_config.json": "{}", "thesis.tex": "mine"},
        {"stages/run.json": "{}", "deep/thesis.tex": "mine"},
    ],
    ids=", ".join,
)
def test_a_directory_without_a_manifest_of_ours_is_never_replaced(tmp_path, files):
    out = tmp_path / "out"
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(content)
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"), new_directory(out, overwrite=True):
        pytest.fail("the block must not run")
    assert {name: (out / name).read_text() for name in files} == files


@pytest.mark.parametrize("kind", ["file", "hidden", "deep", "link", "broken link"])
def test_one_file_that_is_not_listed_keeps_a_directory(tmp_path, kind):
    out = tmp_path / "out"
    prepare(out, "full")
    name = {"hidden": ".notes", "deep": "a/b/notes"}.get(kind, "notes")
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    if kind.endswith("link"):
        (out / name).symlink_to(tmp_path if kind == "link" else tmp_path / "nothing")
    else:
        (out / name).write_text("mine")
    assert strangers_in(out) == [name]
    with pytest.raises(OutputExistsError, match=name), new_directory(out, overwrite=True):
        pytest.fail("the block must not run")
    assert (out / "old").read_text() == "old"


def test_what_is_put_there_meanwhile_is_kept_and_so_is_the_work(tmp_path):
    out = tmp_path / "out"
    prepare(out, "full")
    with (
        pytest.raises(OutputExistsError, match="the output is in") as caught,
        new_directory(out, overwrite=True) as scratch,
    ):
        (scratch / "new").write_text("new")
        (out / "mine").write_text("mine")
    assert names(out) == ["manifest.json", "mine", "old"]
    (other,) = [tmp_path / name for name in names(tmp_path) if name != "out"]
    assert str(other) in str(caught.value)
    assert names(other) == ["manifest.json", "new"]


@pytest.mark.parametrize("system", ["exchanges", "renames"])
@pytest.mark.parametrize("before", ["nothing", "empty", "full"])
def test_a_directory_that_succeeds_is_the_new_one_only(tmp_path, monkeypatch, before, system):
    path = tmp_path / "out"
    prepare(path, before)
    if system == "renames":
        monkeypatch.setattr(directories, "_exchange", lambda *_: False)
    with new_directory(path, overwrite=True) as scratch:
        assert scratch.parent == path.parent
        (scratch / "deep").mkdir()
        (scratch / "deep" / "new").write_text("new")
        if before == "full":
            # The old one is there until the new one is complete.
            assert (path / "old").read_text() == "old"
    assert names(path) == ["deep", "manifest.json"]
    assert set(listed_in(path)) == {"deep/new"}
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_umask_says_who_may_read_a_directory(tmp_path, mask):
    path, before = tmp_path / "out", os.umask(mask)
    try:
        with new_directory(path) as scratch:
            (scratch / "deep").mkdir(mode=0o700)
            (scratch / "deep" / "weights").touch(mode=0o600)
    finally:
        os.umask(before)
    modes = [item.stat().st_mode & 0o777 for item in (path, path / "deep", path / "deep/weights")]
    assert modes == [0o777 & ~mask, 0o777 & ~mask, 0o666 & ~mask]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "free space"), (errno.EFBIG, "free space"),
        (errno.EROFS, "is read-only"), (errno.EACCES, "permission"), (errno.EIO, "check the disk"),
    ],
)  # fmt: skip
def test_a_disk_that_refuses_is_met_by_its_own_cure(tmp_path, code, said):
    for writer in (writing, new_directory):
        with pytest.raises(ArtefactError, match=said), writer(tmp_path / "out"):
            raise OSError(code, os.strerror(code))


FULL = [OSError(28, "No space left"), SafetensorError("I/O error: No space left (os error 28)")]


@pytest.mark.parametrize("before", ["nothing", "empty", "full"])
@pytest.mark.parametrize("error", [Stopped(), ValueError("x"), *FULL], ids=repr)
def test_a_directory_that_fails_leaves_no_trace(tmp_path, before, error):
    path = tmp_path / "out"
    prepare(path, before)
    full = isinstance(error, OSError | SafetensorError)
    expected = ArtefactError if full else type(error)
    with pytest.raises(expected) as caught, new_directory(path, overwrite=True) as scratch:
        (scratch / "half").write_text("half")
        raise error
    if full:
        assert "No space left" in str(caught.value)
        assert "free space" in str(caught.value)
    assert names(tmp_path) == ([] if before == "nothing" else ["out"])
    if before != "nothing":
        assert names(path) == (["manifest.json", "old"] if before == "full" else [])


@pytest.mark.parametrize("error", [Stopped(), OSError(28, "full")], ids=repr)
def test_the_old_directory_comes_back_if_the_swap_fails(tmp_path, monkeypatch, error):
    path = tmp_path / "out"
    prepare(path, "full")
    rename = Path.rename

    def fail_for_new(self, target):
        if Path(target) == path and ".ssmith-old-" not in str(self):
            raise error
        return rename(self, target)

    expected = ArtefactError if isinstance(error, OSError) else Stopped
    with monkeypatch.context() as patch:
        patch.setattr(directories, "_exchange", lambda *_: False)
        patch.setattr(Path, "rename", fail_for_new)
        with pytest.raises(expected), new_directory(path, overwrite=True) as scratch:
            (scratch / "new").write_text("new")
    assert names(tmp_path) == ["out"]
    assert names(path) == ["manifest.json", "old"]


@pytest.mark.parametrize("system", ["exchanges", "renames"])
def test_a_process_that_is_killed_while_it_replaces_leaves_one_of_both(
    tmp_path, monkeypatch, system
):
    path = tmp_path / "out"
    prepare(path, "full")
    if system == "renames":
        monkeypatch.setattr(directories, "_exchange", lambda *_: False)
    child = os.fork()
    if child == 0:
        real = Path.rename
        # The first of two renames is done, and the exchange is not cleaned up.
        Path.rename = lambda self, target: os._exit(9) if target == path else real(self, target)
        directories.shutil.rmtree = lambda *_, **__: os._exit(9)
        with new_directory(path, overwrite=True) as scratch:
            (scratch / "new").write_text("new")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert len(names(tmp_path)) == 2
    refuse_existing(path, overwrite=True)
    left = {"exchanges": "new", "renames": "old"}[system]
    assert names(path) == sorted(["manifest.json", left])
    assert names(tmp_path) == ["out"]


def test_a_disk_that_fails_in_the_clean_up_does_not_deny_the_output(tmp_path, monkeypatch):
    path = tmp_path / "out"
    prepare(path, "full")

    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    for name in ("unlink", "rmdir"):
        monkeypatch.setattr(os, name, fail)
    with new_directory(path, overwrite=True) as scratch:
        (scratch / "new").write_text("new")
    monkeypatch.undo()
    assert names(path) == ["manifest.json", "new"]
    refuse_existing(path, overwrite=True)
    assert names(tmp_path) == ["out"]


def test_a_full_directory_is_not_touched_without_overwrite(tmp_path):
    path = tmp_path / "out"
    prepare(path, "full")
    with pytest.raises(OutputExistsError), new_directory(path):
        pytest.fail("the block must not run")
    assert names(path) == ["manifest.json", "old"]
    assert names(tmp_path) == ["out"]


def test_parents_are_made(tmp_path):
    with new_directory(tmp_path / "a" / "b") as scratch:
        (scratch / "x").write_text("x")
    assert names(tmp_path / "a" / "b") == ["manifest.json", "x"]


def test_a_directory_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    below = tmp_path / "file" / "out"
    with pytest.raises(OutputExistsError, match="which is a file"), new_directory(below):
        pytest.fail("the block must not run")


def test_what_cannot_be_written_is_named_by_the_output_and_not_by_the_scratch(tmp_path):
    with pytest.raises(ArtefactError) as caught, new_directory(tmp_path / "out") as scratch:
        raise ArtefactError(f"cannot write {scratch / 'a.json'}: full", next_step="free space")
    assert caught.value.what == f"cannot write {tmp_path / 'out' / 'a.json'}: full"
    assert caught.value.next_step == "free space"
    assert list(tmp_path.iterdir()) == []
