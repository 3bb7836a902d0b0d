import json

import numpy as np
import pytest
import torch

from ssmith.core.errors import DataError, InputError
from ssmith.data import load_data

ROWS = [(f"s{i}", i % 2, f"m{i % 3}") for i in range(12)]


def csv(path, header="sequence,label,machine,v", rows=None):
    lines = [f"{name},{label},{machine},{step + 0.1 * i}" for i, (name, label, machine) in
             enumerate(ROWS) for step in range(3)]  # fmt: skip
    path.write_text("\n".join([header, *(rows or lines)]) + "\n", encoding="utf-8")
    return path


def jsonl(path):
    lines = [
        json.dumps({"x": [0.1 * i, 1.0, 2.0], "y": label, "machine": machine})
        for i, (_, label, machine) in enumerate(ROWS)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def npz(path):
    x = np.arange(36, dtype=np.float32).reshape(12, 3, 1)
    labels, machines = [row[1] for row in ROWS], [row[2] for row in ROWS]
    np.savez(path, x=x, y=np.array(labels), machine=np.array(machines))
    return path


@pytest.mark.parametrize("write, name", [(csv, "a.csv"), (jsonl, "a.jsonl"), (npz, "a.npz")])
def test_a_named_column_follows_its_sequences_and_is_no_channel(tmp_path, write, name):
    data = load_data(write(tmp_path / name), columns=("machine",))
    seen = []
    for part in data.splits.values():
        assert part.x.shape[2] == 1
        assert len(part.columns["machine"]) == len(part.columns["name"]) == len(part)
        seen += zip(part.columns["name"], part.columns["machine"], strict=True)
    assert len(seen) == 12
    machines = {"a.csv": {f"s{i}": f"m{i % 3}" for i in range(12)},
                "a.jsonl": {f"a.jsonl line {i + 1}": f"m{i % 3}" for i in range(12)},
                "a.npz": {str(i): f"m{i % 3}" for i in range(12)}}  # fmt: skip
    assert dict(seen) == machines[name]
    part = data.split("train")
    order = torch.arange(len(part)).flip(0)
    assert part.take(order).columns["name"] == part.columns["name"][::-1]
    assert part.to("cpu").columns == part.columns


def test_a_column_that_is_not_there_is_named(tmp_path):
    for path in (csv(tmp_path / "a.csv"), npz(tmp_path / "a.npz")):
        with pytest.raises(DataError, match=r"no column 'machin'.*did you mean 'machine'"):
            load_data(path, columns=("machin",))
    with pytest.raises(DataError, match="allowed: x, y, user"):
        load_data(jsonl(tmp_path / "a.jsonl"), columns=("user",))
    with pytest.raises(InputError, match="has no column"):
        load_data("embedded:digits", columns=("machine",))


def test_a_sequence_has_one_value_of_a_column(tmp_path):
    rows = ["s0,1,m0,0.5", "s0,1,m1,0.5"]
    with pytest.raises(DataError, match=r"row 3.*changes its machine from 'm0' to 'm1'"):
        load_data(csv(tmp_path / "a.csv", rows=rows), columns=("machine",))
