"""Text from files, directories, lines and token files; and what is said about bad ones."""

import json

import numpy as np
import pytest
import torch

from ssmith.core.errors import DataError, InputError
from ssmith.core.sequences import SPLITS
from ssmith.data import load_text
from ssmith.data.splitting import FRACTIONS

PROSE = "Häuser, und – so weiter.\n" * 40


def put(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_bytes(stream):
    return bytes(stream.ids.tolist())


def test_a_file_is_its_bytes_cut_into_stretches(tmp_path):
    text = load_text(put(tmp_path / "prose.txt", PROSE))
    assert (text.name, text.vocabulary) == ("prose.txt", 256)
    assert as_bytes(text.split("all")) == PROSE.encode()
    assert b"".join(as_bytes(text.split(name)) for name in SPLITS) == PROSE.encode()
    for name in SPLITS:
        assert len(text.split(name)) == pytest.approx(FRACTIONS[name] * len(PROSE.encode()), abs=1)
    assert bool((text.split("all").text_bytes == 1).all())
    assert text.details["split_of"] == "stretches, one after another"


def test_a_byte_order_mark_is_no_text(tmp_path):
    marked = load_text(put(tmp_path / "a.txt", b"\xef\xbb\xbf" + PROSE.encode()))
    assert as_bytes(marked.split("all")) == PROSE.encode()


def test_lines_are_documents_with_a_zero_between(tmp_path):
    lines = "\n".join(json.dumps({"body": word, "n": 1}) for word in ("one", "zwölf", "three"))
    text = load_text(put(tmp_path / "a.jsonl", lines), field="body")
    assert as_bytes(text.split("all")) == b"one\0zw\xc3\xb6lf\0three"
    assert text.details["documents"] == 3


def test_a_column_of_a_table_holds_documents(tmp_path):
    table = put(tmp_path / "a.csv", 'n,text\n1,one\n2,"zwölf, und"\n\n3,\n4,three\n')
    text = load_text(table)
    assert as_bytes(text.split("all")) == b"one\0zw\xc3\xb6lf, und\0three"
    assert (text.details["documents"], text.details["field"]) == (3, "text")
    assert as_bytes(load_text(table, field="n").split("all")) == b"1\x002\x003\x004"
    put(tmp_path / "short.csv", "n,text\n1,one\n2\n")
    with pytest.raises(DataError, match=r"short\.csv row 3 has 1 cell; allowed: 2"):
        load_text(tmp_path / "short.csv")


def test_a_table_of_numbers_is_no_text(tmp_path):
    table = put(tmp_path / "waves.csv", "sequence,label,u\n1,a,0.5\n")
    refused = "without one column 'text'; allowed: .*sequence, label, u.*; next: .*sequence models"
    with pytest.raises(DataError, match=refused):
        load_text(table)
    put(tmp_path / "notes.txt", PROSE)
    assert load_text(tmp_path).details["files_left_out"] == 1
    table.rename(tmp_path / "waves.txt")
    assert b"0.5" in as_bytes(load_text(tmp_path / "waves.txt").split("all"))


def test_many_documents_are_drawn_whole_and_stay_apart(tmp_path):
    for number in range(40):
        put(tmp_path / f"{number:02}.md", f"document {number:02} " * (number + 1))
    put(tmp_path / "picture.png", b"\x89PNG")
    put(tmp_path / ".hidden.txt", "secret")
    put(tmp_path / "empty.txt", " \n")
    text = load_text(tmp_path)
    found = {name: as_bytes(text.split(name)).split(b"\0") for name in SPLITS}
    everything = as_bytes(text.split("all")).split(b"\0")
    assert sorted(item for part in found.values() for item in part) == sorted(everything)
    assert len(everything) == 40
    assert everything == sorted(everything, key=lambda item: item[:11])
    assert text.details["files_left_out"] == 2
    assert text.details["empty_documents_left_out"] == 1
    total = sum(map(len, everything))
    for name in SPLITS:
        share = sum(map(len, found[name])) / total
        assert share == pytest.approx(FRACTIONS[name], abs=0.06)
    other = load_text(tmp_path, seed=1)
    assert as_bytes(other.split("test")) != as_bytes(text.split("test"))
    assert other.sha256 != text.sha256
    assert load_text(tmp_path).sha256 == text.sha256


def test_token_files_hold_ids(tmp_path):
    ids = np.arange(300) % 97
    np.save(tmp_path / "a.npy", ids)
    put(tmp_path / "a.bin", ids.astype("<u2").tobytes())
    first, second = (load_text(tmp_path / name, vocabulary=97) for name in ("a.npy", "a.bin"))
    assert torch.equal(first.split("all").ids, second.split("all").ids)
    assert first.split("all").ids.tolist() == ids.tolist()
    assert first.split("all").text_bytes is None
    assert first.vocabulary == 97
    assert load_text(tmp_path / "a.npy").vocabulary == 97
    assert first.sample(4, 16).ids.dtype == torch.int64


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.txt", b" \n\n", DataError, "a.txt is empty"),
        ("a.txt", b"good \xff\xfe bad", DataError, "is not UTF-8 text.*at byte 5"),
        ("a.exe", b"text", InputError, "cannot read.*as text.*a suffix of .txt"),
        ("a.jsonl", b'{"text": "a"}\nnonsense', DataError, "a.jsonl line 2 is not JSON"),
        ("a.jsonl", b'{"words": "a"}', DataError, "line 1 has no text under 'text'.*words"),
        ("a.jsonl", b'["a"]', DataError, "record 1 is a str: a"),
        ("a.jsonl", b"\n\n", DataError, "a.jsonl is empty"),
        ("a.npy", b"no numbers", DataError, "a.npy is not a .npy file"),
        ("a.bin", b"abc", DataError, "a.bin has 3 bytes.*two bytes per token"),
        ("a.bin", b"", DataError, "a.bin holds no token"),
    ],
)
def test_bad_files_are_refused_with_the_place(tmp_path, name, content, kind, words):
    with pytest.raises(kind, match=words):
        load_text(put(tmp_path / name, content))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([1, 2, 97]), "token id 97.*ids from 0 to 96"),
        (np.array([1, -2, 3]), "token id -2"),
        (np.array([1.0, 2.0]), "type float64.*one axis of integers"),
        (np.array([[1, 2]]), r"shape \(1, 2\)"),
        (np.array([], dtype=np.int64), "holds no token"),
    ],
)
def test_token_files_that_do_not_fit_are_refused(tmp_path, array, words):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=words):
        load_text(tmp_path / "a.npy", vocabulary=97)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(InputError, match="there is no file or directory"):
        load_text(tmp_path / "a.txt")
    with pytest.raises(InputError, match="there is no file"):
        load_text(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"there is no text 'wikipedia:en'.*stdlib:"):
        load_text("wikipedia:en")
    with pytest.raises(DataError, match="holds no text file"):
        load_text(tmp_path)


def test_a_model_of_another_vocabulary_needs_its_tokenizer(tmp_path):
    with pytest.raises(DataError, match="the model has 61 token ids and no tokenizer"):
        load_text(put(tmp_path / "a.txt", PROSE), vocabulary=61)


def test_the_reference_is_prose_that_python_brings():
    text = load_text("pydoc:")
    assert text.name == "pydoc"
    assert text.details["documents"] > 50
    assert b"An assignment" in as_bytes(text.split("all"))
    assert load_text("pydoc:").sha256 == text.sha256
    with pytest.raises(InputError, match="stdlib:, pydoc:"):
        load_text("pydocs:")
