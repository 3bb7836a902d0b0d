"""Files that are whole or absent."""

import json
import os
from pathlib import Path

import pytest

from ssmith.core.errors import ArtefactError
from ssmith.core.files import (
    aside,
    beside,
    finite_or_none,
    hold,
    read_json,
    sha256_file,
    sweep,
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


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_says_who_may_read(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_what_a_killed_writer_left_is_swept_and_what_another_writes_is_not(tmp_path):
    path = tmp_path / "file.txt"
    foreign = [".file.txt.abcdef12", ".file.txt.ssmith-mine", ".other.ssmith-01234567", ".file.txt"]
    for name in [".file.txt.ssmith-01234567", ".file.txt.ssmith-0a1b2c3d", *foreign]:
        (tmp_path / name).write_text("half")
    descriptor, held = hold(path, lambda place: os.open(place, os.O_WRONLY | os.O_CREAT))
    write_text(path, "whole")
    assert names(tmp_path) == sorted(["file.txt", held.name, *foreign])
    os.close(descriptor)
    write_text(path, "again")
    assert names(tmp_path) == sorted(["file.txt", *foreign])


def test_what_a_killed_exchange_had_set_aside_comes_back(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    (path / "weights").write_text("old")
    path.rename(aside(path))
    sweep(path)
    assert (path / "weights").read_text() == "old"
    path.rename(aside(path))
    path.mkdir()
    sweep(path)
    assert names(tmp_path) == ["out"]
    assert names(path) == []


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


def test_digest(tmp_path):
    write_text(tmp_path / "a" / "b", "abc")
    # The digest of "abc" as FIPS 180-2 prints it.
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "a" / "b") == known
