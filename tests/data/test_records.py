"""The same records in every form they come in, and what is wrong with them named by its place."""

import gzip
import json

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
import torch

from ssmith.core.errors import DataError
from ssmith.data import ByteTokenizer, keys_of, load_data, load_examples, load_text

TEXTS = [{"text": f"hello {i} wörld", "id": i} for i in range(30)]
SERIES = [{"x": [[0.5 * i, 1.0], [2.0, i]], "y": "ab"[i % 2], "id": i} for i in range(20)]


def lines(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")


def array(path, rows):
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def packed(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write("\n".join(map(json.dumps, rows)))


def parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)


def dataset(path, rows):
    """What ``datasets`` saves: a stream of Arrow beside a file that names it."""
    path.mkdir()
    table = pa.Table.from_pylist(rows)
    with ipc.new_stream(str(path / "data-00000-of-00001.arrow"), table.schema) as stream:
        stream.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (path / "state.json").write_text(json.dumps(state))


FORMS = [(lines, "a.jsonl"), (lines, "a.json"), (lines, "a.ndjson"), (array, "a.json"),
         (array, "a.jsonl"), (packed, "a.jsonl.gz"), (packed, "a.json.gz"),
         (parquet, "a.parquet"), (dataset, "a")]  # fmt: skip


@pytest.mark.parametrize("write, name", FORMS)
def test_texts_are_the_same_in_every_form(tmp_path, write, name):
    write(tmp_path / name, TEXTS)
    text = load_text(tmp_path / name)
    wanted = "\0".join(row["text"] for row in TEXTS).encode()
    assert bytes(text.split("all").ids.tolist()) == wanted
    data = load_examples(tmp_path / name, ByteTokenizer())
    assert data.details["keys_ignored"] == {"id": 30}
    learned = sorted(
        ByteTokenizer().decode(row.ids.tolist()) for part in data.splits.values() for row in part
    )
    assert learned == sorted(row["text"] for row in TEXTS)
    assert keys_of(tmp_path / name) == ["text", "id"]


@pytest.mark.parametrize("write, name", FORMS)
def test_series_are_the_same_in_every_form(tmp_path, write, name):
    write(tmp_path / name, SERIES)
    data = load_data(tmp_path / name)
    assert data.details["keys_ignored"] == {"id": 20}
    assert data.name == "a"
    first = torch.cat([part.x for part in data.splits.values()])[:, 1, 1]
    assert sorted(first.tolist()) == list(range(20))


def test_the_splits_of_a_data_set_are_those_of_its_directories(tmp_path):
    place = tmp_path / "set"
    place.mkdir()
    parts = {"train": TEXTS[:20], "validation": TEXTS[20:25], "test": TEXTS[25:]}
    for name, rows in parts.items():
        dataset(place / name, rows)
    (place / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)}))
    data = load_examples(place, ByteTokenizer())
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 20, "validation": 5, "test": 5,
    }  # fmt: skip
    (place / "dataset_dict.json").write_text(json.dumps({"splits": ["../set/train"]}))
    with pytest.raises(DataError, match="names of files or directories beside it"):
        load_examples(place, ByteTokenizer())


def test_a_table_of_steps_is_read_from_parquet_as_from_text(tmp_path):
    rows = [
        {"sequence": f"s{i}", "label": "ab"[i % 2], "time": t, "v": 1.5 * t + i}
        for i in range(12)
        for t in (2, 0, 1)
    ]
    parquet(tmp_path / "a.parquet", rows)
    (tmp_path / "a.csv").write_text(
        "\n".join(["sequence,label,time,v", *(",".join(map(str, row.values())) for row in rows)])
    )
    one, two = load_data(tmp_path / "a.parquet"), load_data(tmp_path / "a.csv")
    assert one.sha256 == two.sha256
    rows[4]["v"] = None
    parquet(tmp_path / "a.parquet", rows)
    with pytest.raises(DataError, match=r"a\.parquet row 5, column 'v': the cell is empty"):
        load_data(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '{\n "text": "a",\n "more": 1\n}', "is one JSON object, with text, more in it"),
        ("a.json", '[{"text": "a"}, 3]', "record 2 is a int"),
        ("a.json", '[{"text": "a"}', "a.json is not JSON"),
        (
            "a.jsonl",
            '{"text": "a", "split": "t"}\n{"text": "b \\ud800", "split": "t"}',
            "line 2 holds half of a surrogate",
        ),
        ("a.parquet", "no parquet", "cannot read a.parquet"),
        ("a.arrow", "no arrow", "cannot read a.arrow"),
        ("a.jsonl.gz", "not packed", "cannot read a.jsonl.gz"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
        load_text(tmp_path / name)
    with pytest.raises(DataError, match=said.replace("holds", "a text holds").replace(
        "line 2 a", "line 2: a"
    )):  # fmt: skip
        load_examples(tmp_path / name, ByteTokenizer())


def test_what_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ssmith.data.files.MOST", 1 << 20)
    with gzip.open(tmp_path / "a.txt.gz", "wb") as stream:
        stream.write(b"a" * (2 << 20))
    assert (tmp_path / "a.txt.gz").stat().st_size < 10_000
    with pytest.raises(DataError, match="unpacks to more than 1 MiB"):
        load_text(tmp_path / "a.txt.gz")


def test_a_directory_of_records_is_read_where_there_is_no_plain_text(tmp_path):
    lines(tmp_path / "one.jsonl", TEXTS[:3])
    array(tmp_path / "two.json", TEXTS[3:5])
    assert load_text(tmp_path).details["documents"] == 5
    (tmp_path / "notes.txt").write_text("plain")
    text = load_text(tmp_path)
    assert (text.details["documents"], text.details["files_left_out"]) == (1, 2)


def test_other_encodings_are_named_with_the_way_out(tmp_path):
    (tmp_path / "a.txt").write_bytes("日本語の文".encode("shift_jis"))
    with pytest.raises(DataError, match=r"iconv -f SHIFT_JIS -t UTF-8 a\.txt"):
        load_text(tmp_path / "a.txt")
