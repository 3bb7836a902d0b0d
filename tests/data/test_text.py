from __future__ import annotations

import json

import pytest
import torch

from ssmith.core.errors import DataError
from ssmith.core.sequences import SPLITS
from ssmith.data import load_data


@pytest.fixture
def csv_file(tmp_path):
    def _write(lines, name="mine.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes("\n".join(lines).encode(encoding))
        return path

    return _write


@pytest.fixture
def jsonl_file(tmp_path):
    def _write(records):
        path = tmp_path / "mine.jsonl"
        path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records))
        return path

    return _write


def table(count=16, split=False):
    """Rows of ``count`` sequences of 1 to 3 steps in reverse time, two channels."""
    lines = ["time,label,sequence,u,v" + (",split" if split else "")]
    for i in range(count):
        for step in reversed(range(1 + i % 3)):
            line = f"{step},{'xy'[i % 2]},s{i},{i}.5,{step}"
            lines.append(line + (f",{SPLITS[i % 4]}" if split else ""))
    return lines


def records(count=16):
    return [{"x": [[i, step] for step in range(1 + i % 3)], "y": "xy"[i % 2]} for i in range(count)]


def test_csv_becomes_series_in_order_of_time(csv_file):
    data = load_data(csv_file(table(split=True)))
    assert data.classes == ("x", "y")
    part = data.splits["selection"]
    assert part.lengths.tolist() == [3, 1, 2, 3]
    # Sequences s2, s6, s10, s14; channel v is the step itself.
    assert part.x[0].tolist() == [[2.5, 0.0], [2.5, 1.0], [2.5, 2.0]]
    assert part.x[1].tolist() == [[6.5, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert part.y.tolist() == [0, 0, 0, 0]


def test_csv_without_time_keeps_the_order_of_rows(csv_file):
    lines = [",".join(line.split(",")[1:]) for line in table()]
    data = load_data(csv_file(lines))
    longest = next(part for part in data.splits.values() if 3 in part.lengths)
    first = longest.x[longest.lengths.tolist().index(3)]
    assert first[:, 1].tolist() == [2.0, 1.0, 0.0]


def test_csv_with_byte_order_mark_quotes_and_crlf(csv_file):
    lines = [line + "\r" for line in table()]
    lines[1:] = [line.replace("s0", '"a, b"') for line in lines[1:]]
    plain = load_data(csv_file(table()))
    assert load_data(csv_file(lines, encoding="utf-8-sig")).sha256 == plain.sha256


@pytest.mark.parametrize(
    ("label", "task"), [("3", "classification"), ("0.5", "regression"), ("on", "classification")]
)
def test_csv_labels_say_what_the_task_is(csv_file, label, task):
    lines = ["sequence,label,u"]
    lines += [f"{i},{label if i % 2 else '7'},{i}" for i in range(16)]
    assert load_data(csv_file(lines)).task == task


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no sequence"),
        (["sequence,label,u"], "no sequence"),
        (["sequence,u", "1,2"], "has columns sequence, u"),
        (["sequence,label", "1,2"], "at least one channel"),
        (["sequence,label,u,u", "1,2,3,4"], "each once"),
        (["sequence,label,u", "1,a,2", "1,a"], "row 3 has 2 cells; allowed: 3"),
        (["sequence,label,u", "1,a,zero"], "row 2, column 'u': 'zero' is not a number"),
        (["sequence,label,u", "1,a,"], "row 2, column 'u': the cell is empty; .*next: fill it in"),
        (["sequence,label,u", "1,,3"], "row 2, column 'label': the cell is empty; .*next: fill"),
        (["sequence,label,u", "1,a,3", "1,b,3"], "row 3: sequence '1' changes its label"),
        (["sequence,label,u,time", "1,a,3,0", "1,a,3,0"], "has time 0 twice"),
        (["sequence,label,u,time", "1,a,3,nan"], "time that is not finite"),
        (["sequence,label,u", '1,"a,3'], "not a table"),
        (["sequence,label,u,split", "1,a,3,train", "2,b,3,dev"], "sequence 1 is in split 'dev'"),
        (["sequence,label,u", "s,a,3", "t,b,nan"], r"1 NaN, .*sequence 1 \('t'\), step 0"),
    ],
)
def test_csv_faults_are_named(csv_file, lines, message):
    with pytest.raises(DataError, match=message):
        load_data(csv_file(lines))


def test_text_must_be_utf8(csv_file):
    with pytest.raises(DataError, match="UTF-8"):
        load_data(csv_file(["sequence,label,u", "1,ä,3"], encoding="latin-1"))


def test_jsonl_equals_csv(csv_file, jsonl_file):
    lines = ["sequence,label,u,v"]
    for i, record in enumerate(records()):
        lines += [f"{i},{record['y']},{u},{v}" for u, v in record["x"]]
    assert load_data(jsonl_file(records())).sha256 == load_data(csv_file(lines)).sha256


def test_jsonl_flat_lists_are_one_channel(jsonl_file):
    flat = [{"x": [0.5 * i] * (1 + i % 2), "y": i % 2} for i in range(16)]
    data = load_data(jsonl_file([*flat, ""]))
    assert data.splits["train"].x.shape[1:] == (2, 1)
    assert data.classes == ("0", "1")


def test_jsonl_splits(jsonl_file):
    named = [r | {"split": SPLITS[i % 4]} for i, r in enumerate(records())]
    data = load_data(jsonl_file(named))
    assert [len(part) for part in data.splits.values()] == [4, 4, 4, 4]
    del named[3]["split"]
    with pytest.raises(DataError, match="line 4 has no split"):
        load_data(jsonl_file(named))


@pytest.mark.parametrize(
    ("targets", "shape"),
    [([0.5, 1], ()), ([[1, 2], [0.5, 3]], (2,)), ([[[1], [2]], [[3], [4]]], (2, 1))],
)
def test_jsonl_real_targets(jsonl_file, targets, shape):
    lines = [{"x": [i], "y": targets[i % 2]} for i in range(16)]
    data = load_data(jsonl_file(lines))
    assert data.task == "regression"
    assert data.splits["test"].y.shape[1:] == shape
    assert data.splits["test"].y.dtype == torch.float32


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 17 is not JSON"),
        ("[1, 2]", "line 17 is a list"),
        ('{"x": [[1, 2]]}', "line 17 has no y, of x"),
        ('{"x": [[1, 2]], "y": "x", "splits": 1}', "has 'splits'.*did you mean 'split'"),
        ('{"x": [[1, 2], [3]], "y": "x"}', "line 17: rows of x differ"),
        ('{"x": [["1", 2]], "y": "x"}', "line 17: x has shape"),
        ('{"x": [], "y": "x"}', "line 17: x has shape"),
        ('{"x": null, "y": "x"}', "line 17 has no x"),
        ('{"x": [[[1]]], "y": "x"}', "line 17: x has shape"),
        ('{"x": [[1, 2, 3]], "y": "x"}', r"line 17: x has 3 channels; allowed: 2"),
        ('{"x": [[1, NaN]], "y": "x"}', r"sequence 16 \(mine.jsonl line 17\), step 0, channel 1"),
        ('{"x": [[1, 1e400]], "y": "x"}', "1 infinite"),
        ('{"x": [[1, 2]], "y": 3}', "y mixes int, str"),
        ('{"x": [[1, 2]], "y": null}', "line 17 has no y"),
        ("[" * 100_000, "line 17 is not JSON"),
    ],
)
def test_jsonl_faults_are_named(jsonl_file, line, message):
    with pytest.raises(DataError, match=message):
        load_data(jsonl_file([*records(), line]))


def test_jsonl_lists_of_targets_must_agree(jsonl_file):
    lines = [{"x": [1], "y": [1.0]}, {"x": [2], "y": [1.0, 2.0]}]
    with pytest.raises(DataError, match="differ in length"):
        load_data(jsonl_file(lines))


def test_an_empty_jsonl(jsonl_file):
    with pytest.raises(DataError, match="is empty: it has no line"):
        load_data(jsonl_file([""]))
