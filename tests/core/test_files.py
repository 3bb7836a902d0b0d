"""Files that are whole or absent."""

import json
import os
from pathlib import Path

import pytest

from ssmith.core.errors import ArtefactError, OutputExistsError
from ssmith.core.files import (
    beside,
    directory_bytes,
    finite_or_none,
    new_directory,
    read_json,
    refuse_existing,
    sha256_file,
    to_json,
    write_bytes,
    write_json,
    write_text,
)


class Stopped(BaseException):
    """What a kill looks like from inside: no ordinary exception."""


def names(directory):
    return sorted(item.name for item in directory.iterdir())


def test_write_and_replace(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_text(path, "erste Zeile: λ\n")
    assert path.read_text(encoding="utf-8") == "erste Zeile: λ\n"
    write_bytes(path, b"other")
    assert path.read_bytes() == b"other"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Stopped()], ids=repr)
def test_a_write_that_fails_leaves_the_old_file_and_no_scrap(tmp_path, monkeypatch, failing, error):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync", fail) if failing == "fsync" else (Path, "replace", fail)))
        expected = ArtefactError if isinstance(error, OSError) else Stopped
        with pytest.raises(expected) as caught:
            write_text(path, "new")
    if expected is ArtefactError:
        assert "No space left" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_file_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtefactError, match="cannot write"):
        write_text(tmp_path / "file" / "below", "y")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_word_for_what_is_not_finite(tmp_path, number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"x": [number]})
    assert finite_or_none(number) is None
    assert finite_or_none(0.5) == 0.5
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"x": number}))
    with pytest.raises(ArtefactError, match="non-finite"):
        read_json(path)


def test_json_is_sorted_and_keeps_its_letters(tmp_path):
    write_json(tmp_path / "x.json", {"b": "λ", "a": 1})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "a": 1,\n  "b": "λ"\n}\n'
    assert read_json(tmp_path / "x.json") == {"a": 1, "b": "λ"}


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"[1,]", b"[" * 100_000], ids=range(5))
def test_what_is_no_json_is_one_line(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ArtefactError) as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_a_file_written_by_hand_is_corrected(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": 1,\n "b" 2}')
    with pytest.raises(ArtefactError, match=r"next: correct the file at line 2, column 6\.$"):
        read_json(path, by_hand=True)
    with pytest.raises(ArtefactError, match="next: restore it from its source"):
        read_json(path)


def test_what_is_much_alike_beside_a_path_is_suggested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("waves.json", ".wave.json", "other.csv"):
        Path(name).touch()
    assert beside(Path("wavse.json")) == "did you mean 'waves.json'?"
    assert beside(tmp_path / "wavse.json") == f"did you mean 'waves.json' in {tmp_path}?"
    for path in ("notes.txt", "waves.json", "nowhere/waves.json", "other.csv/x", ""):
        assert beside(Path(path)) == ""
    with pytest.raises(ArtefactError, match=r"did you mean 'waves\.json'\?$"):
        read_json(Path("wavse.json"))


@pytest.mark.parametrize("what", ["missing", "directory"])
def test_what_cannot_be_read_is_one_line(tmp_path, what):
    path = tmp_path if what == "directory" else tmp_path / "missing.json"
    with pytest.raises(ArtefactError, match="cannot read"):
        read_json(path)


def test_digest_and_size(tmp_path):
    write_text(tmp_path / "a" / "b", "abc")
    write_text(tmp_path / "c", "")
    # The digest of "abc" as FIPS 180-2 prints it.
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "a" / "b") == known
    assert directory_bytes(tmp_path) == 3


def test_refuse_existing(tmp_path):
    refuse_existing(tmp_path / "free", overwrite=False)
    (tmp_path / "empty").mkdir()
    refuse_existing(tmp_path / "empty", overwrite=False)
    (tmp_path / "file").write_text("x")
    for occupied in (tmp_path, tmp_path / "file"):
        refuse_existing(occupied, overwrite=True)
        with pytest.raises(OutputExistsError, match="--overwrite"):
            refuse_existing(occupied, overwrite=False)


@pytest.mark.parametrize("before", ["nothing", "empty", "full", "file"])
def test_a_directory_that_succeeds_is_the_new_one_only(tmp_path, before):
    path = tmp_path / "out"
    prepare(path, before)
    with new_directory(path, overwrite=True) as scratch:
        assert scratch.parent == path.parent
        (scratch / "deep").mkdir()
        (scratch / "deep" / "new").write_text("new")
        if before == "full":
            # The old one is there until the new one is complete.
            assert (path / "old").read_text() == "old"
    assert names(path) == ["deep"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o000])
def test_permissions_are_what_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        path = tmp_path / "out"
        with new_directory(path) as scratch:
            (scratch / "deep").mkdir(mode=0o700)
            (scratch / "deep" / "weights").touch(mode=0o600)
        write_text(tmp_path / "file", "text")
    finally:
        os.umask(before)
    for place, full in (
        (path, 0o777),
        (path / "deep", 0o777),
        (path / "deep" / "weights", 0o666),
        (tmp_path / "file", 0o666),
    ):
        assert place.stat().st_mode & 0o777 == full & ~umask


def prepare(path, before):
    if before in ("empty", "full"):
        path.mkdir()
    if before == "full":
        (path / "old").write_text("old")
    if before == "file":
        path.write_text("old")


@pytest.mark.parametrize("before", ["nothing", "empty", "full"])
@pytest.mark.parametrize("error", [Stopped(), ValueError("x"), OSError(28, "full")], ids=repr)
def test_a_directory_that_fails_leaves_no_trace(tmp_path, before, error):
    path = tmp_path / "out"
    prepare(path, before)
    expected = ArtefactError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), new_directory(path, overwrite=True) as scratch:
        (scratch / "half").write_text("half")
        raise error
    assert names(tmp_path) == ([] if before == "nothing" else ["out"])
    if before != "nothing":
        assert names(path) == (["old"] if before == "full" else [])


@pytest.mark.parametrize("error", [Stopped(), OSError(28, "full")], ids=repr)
def test_the_old_directory_comes_back_if_the_swap_fails(tmp_path, monkeypatch, error):
    path = tmp_path / "out"
    prepare(path, "full")
    rename = Path.rename

    def fail_for_new(self, target):
        if Path(target) == path and ".old." not in str(self):
            raise error
        return rename(self, target)

    expected = ArtefactError if isinstance(error, OSError) else Stopped
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail_for_new)
        with pytest.raises(expected), new_directory(path, overwrite=True) as scratch:
            (scratch / "new").write_text("new")
    assert names(tmp_path) == ["out"]
    assert names(path) == ["old"]


def test_a_full_directory_is_not_touched_without_overwrite(tmp_path):
    path = tmp_path / "out"
    prepare(path, "full")
    with pytest.raises(OutputExistsError), new_directory(path):
        pytest.fail("the block must not run")
    assert names(path) == ["old"]
    assert names(tmp_path) == ["out"]


def test_parents_are_made(tmp_path):
    with new_directory(tmp_path / "a" / "b") as scratch:
        (scratch / "x").write_text("x")
    assert names(tmp_path / "a" / "b") == ["x"]


def test_a_directory_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    below = tmp_path / "file" / "out"
    with pytest.raises(OutputExistsError, match="which is a file"), new_directory(below):
        pytest.fail("the block must not run")
