"""Tuning data: every form of line, what is cut is counted, and like texts stay together."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmith.core.errors import DataError, InputError
from ssmith.data import ByteTokenizer, ExamplesConfig, load_examples

BYTES = ByteTokenizer()
CONVERTER = Path(__file__).parents[2] / "recipes" / "data" / "dart.py"


@pytest.fixture
def write(tmp_path):
    def write(lines, name="train.jsonl"):
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
        return tmp_path / name

    return write


def pairs(count):
    return [{"prompt": f"ask {i} ", "completion": f"say {i}"} for i in range(count)]


def test_a_completion_is_learned_with_its_end_and_the_prompt_is_not(write):
    data = load_examples(write(pairs(10)), BYTES)
    assert data.task == "language"
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 8, "validation": 1, "test": 1,
    }  # fmt: skip
    for part in data.splits.values():
        for row in part:
            assert BYTES.decode(row.ids[: row.start].tolist()).startswith("ask")
            assert BYTES.decode(row.ids[row.start :].tolist()) == row.references[0]
            assert int(row.ids[-1]) == BYTES.end
            assert row.learned == len(row.references[0]) + 1
    assert "cut" in data.details
    assert data.details["cut"] == {}


def test_texts_and_labels(write):
    text = load_examples(write([{"text": "ab"}, {"text": "cde"}, {"text": "f"}]), BYTES)
    assert all(row.start == 0 for part in text.splits.values() for row in part)
    lines = [{"text": f"t{i}", "label": ["bad", "good"][i % 2]} for i in range(8)]
    labelled = load_examples(write(lines), BYTES)
    assert (labelled.task, labelled.classes) == ("classification", ("bad", "good"))
    again = load_examples(write(lines), BYTES, classes=["good", "bad"])
    assert again.classes == ("good", "bad")
    numbers = load_examples(write([{"text": f"t{i}", "label": i / 4} for i in range(8)]), BYTES)
    assert numbers.task == "regression"
    assert all(isinstance(row.target, float) for row in numbers.split("train"))
    assert numbers.split("train")[0].learned == 0


def test_what_is_too_long_is_cut_where_it_is_said_and_counted(write):
    lines = [{"prompt": "p" * 10, "completion": "c" * 5, "split": "train"}]
    (row,) = load_examples(write(lines), BYTES, ExamplesConfig(length=9)).split("train")
    assert BYTES.decode(row.ids.tolist()) == "ppp" + "ccccc"
    data = load_examples(write(lines), BYTES, ExamplesConfig(length=4))
    (row,) = data.split("train")
    assert BYTES.decode(row.ids.tolist()) == "pccc"
    assert data.details["cut"] == {"answers cut": 1, "prompts cut": 1, "too long": 1}
    with pytest.raises(DataError, match="16 tokens"):
        load_examples(write(lines), BYTES, ExamplesConfig(length=9, long="refuse"))
    with pytest.raises(DataError, match="no text of split train"):
        load_examples(write(lines), BYTES, ExamplesConfig(length=9, long="drop"))


def test_plain_text_becomes_rows_and_loses_nothing_that_could_be_learned(write):
    lines = [{"text": "abcdefgh", "split": "train"}]
    data = load_examples(write(lines), BYTES, ExamplesConfig(length=4, end=False))
    rows = [BYTES.decode(row.ids.tolist()) for row in data.split("train")]
    assert rows == ["abcd", "efgh"]
    data = load_examples(write(lines), BYTES, ExamplesConfig(length=4))
    assert len(data.split("train")) == 2
    assert data.details["cut"]["tokens dropped"] == 1


@given(st.integers(3, 40), st.integers(0, 5))
def test_lines_with_one_prompt_share_a_split(count, seed):
    lines = [
        {"prompt": f"ask {i % max(3, count // 2)}", "completion": f"say {i}"} for i in range(count)
    ]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "x.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        data = load_examples(path, BYTES, ExamplesConfig(seed=seed))
        again = load_examples(path, BYTES, ExamplesConfig(seed=seed))
    seen = {
        name: {bytes(row.ids[: row.start].tolist()) for row in part}
        for name, part in data.splits.items()
    }
    assert sum(len(part) for part in data.splits.values()) == count
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert data.sha256 == again.sha256


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{"], "line 1 is not JSON"),
        ([{"prompt": "a"}], "line 1 has prompt"),
        ([{"text": ""}], "text is ''"),
        ([{"text": "a"}, {"prompt": "a", "completion": "b"}], "one form in a file"),
        ([{"text": "a", "label": True}], "label is True"),
        ([{"text": "a", "label": 0.5}, {"text": "b", "label": "x"}], "mixes numbers and texts"),
        ([{"text": "a", "split": "train"}, {"text": "b"}], "line 2 has no split"),
        ([{"prompt": "a", "completion": "b", "references": "c"}], "references is 'c'"),
        ([{"text": "a"}, {"text": "a"}], "1 different texts"),
        ([], "has no line"),
        ([{"text": "a\u0000", "split": "train"}], "character 0"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(write, lines, said):
    with pytest.raises(DataError, match=said):
        load_examples(write(lines), BYTES)


def test_a_file_that_is_none_is_refused(tmp_path, write):
    with pytest.raises(InputError, match="no file"):
        load_examples(tmp_path / "gone.jsonl", BYTES)
    with pytest.raises(InputError, match=r"\.jsonl"):
        load_examples(write(pairs(3), "train.txt"), BYTES)


def test_the_converter_of_triples_writes_lines_that_load(tmp_path):
    entries = [
        {
            "tripleset": [[f"S{i}", "IS", f"O{i}"], ["a", "b", "c"]],
            "annotations": [
                {"source": "", "text": f"S{i} is O{i}."},
                {"source": "", "text": "Hm."},
            ],
        }
        for i in range(4)
    ]
    (tmp_path / "dev.json").write_text(json.dumps(entries), encoding="utf-8")
    command = [sys.executable, str(CONVERTER), "dev.json", "out.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "4 sets of triples, 8 lines\n"
    data = load_examples(tmp_path / "out.jsonl", BYTES)
    row = data.split("test")[0]
    assert len(row.references) == 2
    assert BYTES.decode(row.ids[: row.start].tolist()).endswith("a | b | c\n=> ")


def test_held_out_rows_are_spread_and_nothing_is_taken_from_training(write):
    lines = [
        {"text": f"text {i}", "split": split}
        for split, count in (("train", 9), ("validation", 10), ("test", 2))
        for i in range(count)
    ]
    data = load_examples(write(lines), BYTES, ExamplesConfig(held_out=4))
    shown = {
        name: [BYTES.decode(row.ids.tolist()).strip("\0") for row in part]
        for name, part in data.splits.items()
    }
    assert len(shown["train"]) == 9
    assert shown["validation"] == ["text 0", "text 2", "text 5", "text 7"]
    assert shown["test"] == ["text 0", "text 1"]
    with pytest.raises(InputError, match="held_out is 0"):
        ExamplesConfig(held_out=0)
