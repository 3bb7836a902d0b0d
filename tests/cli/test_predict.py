"""``ssmith predict``: files, errors, lines of standard input, states that are gone on from."""

import io
import json

import numpy as np
import pytest
import torch

from ssmith import api
from ssmith.serving import AttributionConfig, attribute


def test_a_file_is_answered_and_scored(place, ssmith):
    ended = ssmith("predict", "model", "--data", "data.npz", "--out", "said.jsonl", "--json")
    assert ended.code == 0, ended.err
    found = ended.document
    lines = [json.loads(line) for line in (place / "said.jsonl").read_text().splitlines()]
    assert found["rows"] == len(lines) == 48
    model = api.load("model")
    whole = np.load("data.npz")
    with torch.no_grad():
        out = model(torch.from_numpy(whole["x"]), torch.from_numpy(whole["lengths"]))
    assert [line["label"] for line in lines] == ["abc"[place] for place in out.argmax(1)]
    right = np.mean([line["label"] == line["target"] for line in lines])
    assert found["score"]["accuracy"]["value"] == pytest.approx(right)
    again = ssmith("predict", "model", "--data", "data.npz", "--out", "said.jsonl")
    assert (again.code, "--overwrite" in again.err) == (2, True)
    assert ssmith(
        "predict", "model", "--data", "data.npz", "--out", "said.jsonl", "--overwrite"
    ).out.startswith("48 answers: said.jsonl")


def test_without_labels_there_is_no_score_and_without_a_file_a_table(place, ssmith):
    np.savez("new.npz", x=np.load("data.npz")["x"])
    ended = ssmith("predict", "model", "--data", "new.npz")
    assert ended.code == 0, ended.err
    assert "… 48 answers in all" in ended.out and "accuracy" not in ended.out
    found = ssmith("predict", "model", "--data", "new.npz", "--json").document
    assert len(found["answers"]) == 48 and found["score"] == {} and found["labelled"] == 0
    assert "target" not in found["answers"][0]


def test_answers_are_taken_apart(place, ssmith):
    pytest.importorskip("matplotlib")
    ended = ssmith(
        "predict", "model", "--data", "data.npz", "--out", "said.csv", "--explain", "why",
        "--explain-rows", "0,2", "--explain-method", "occlusion",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert sorted(item.name for item in (place / "why").iterdir()) == [
        "manifest.json", "row-0.csv", "row-0.svg", "row-2.csv", "row-2.svg",
    ]  # fmt: skip
    table = (place / "why" / "row-0.csv").read_text().splitlines()
    assert table[0] == "step,channel,value,adds"
    assert len(table) == 1 + 2 * int(np.load("data.npz")["lengths"][0])


def test_gradients_that_do_not_add_up_are_told(place, ssmith):
    pytest.importorskip("matplotlib")
    model, data = api.load("model"), np.load("data.npz")
    missed = {}
    for points in (1, 64):
        found = ssmith(
            "predict", "model", "--data", "data.npz", "--explain", f"why-{points}",
            "--explain-rows", "0,1,2,3,4,5", "--explain-points", str(points), "--json",
        ).document  # fmt: skip
        told = {item["message"].partition(":")[0] for item in found["findings"]
                if item["kind"] == "attribution"}  # fmt: skip
        missed[points] = set()
        for row in range(6):
            x = torch.from_numpy(data["x"][row, : int(data["lengths"][row])]).float()
            parts = attribute(model, x, AttributionConfig(points=points))
            if abs(parts.gap) > 0.05 * abs(parts.output - parts.at_nothing):
                missed[points].add(f"row {row}")
        assert told == missed[points]
    assert len(missed[1]) > len(missed[64])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--data is missing"),
        (("--data", "data.npz", "--out", "said.xlsx"), ".parquet"),
        (("--data", "data.npz", "--recall", "0.9"), "positive"),
        (("--data", "data.npz", "--missing", "skip"), "--stream"),
        (("--data", "data.npz", "--generate", "3"), "language models"),
        (("--data", "data.npz", "--explain-points", "3"), "--explain"),
        (("--data", "data.npz", "--explain", "why", "--explain-rows", "99"), "rows 0 to 47"),
        (("--data", "data.npz", "--out", "data.npz"), "data.npz"),
        (("--stream", "--data", "data.npz"), "--data with --stream"),
    ],
)
def test_what_does_not_apply_is_refused(place, ssmith, words, said):
    ended = ssmith("predict", "model", *words)
    assert ended.code == 2
    assert said in ended.err
    assert sorted(item.name for item in place.iterdir()) == ["data.npz", "known.npz", "model"]


def test_lines_are_answered_and_the_state_is_gone_on_from(place, ssmith, monkeypatch):
    x = np.load("data.npz")["x"][0, :3]
    lines = [json.dumps({"sequence": "s", "x": list(map(float, step))}) for step in x]

    def fed(*given):
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(given) + "\n"))
        ended = ssmith("predict", "model", "--stream", "--state", "state")
        return ended.code, [json.loads(line) for line in ended.out.splitlines()], ended.err

    code, first, told = fed(*lines[:2], "rubbish")
    assert code == 1 and "error" in first[2]
    assert "3 lines, 2 answered, 0 waiting, 1 refused; 1 sources" in told
    code, second, _ = fed(lines[2])
    assert code == 0 and second[0]["step"] == 3
    with torch.no_grad():
        wanted = api.load("model")(torch.from_numpy(x[None])).softmax(-1)[0]
    assert np.allclose([second[0][f"p {name}"] for name in "abc"], wanted, atol=1e-6)


def test_a_stream_that_breaks_off_keeps_its_state(place, ssmith, monkeypatch):
    def lines():
        yield '{"x": [1, 2]}\n'
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", lines())
    ended = ssmith("predict", "model", "--stream", "--state", "state")
    assert ended.code == 130
    assert "every line that was answered is in state" in ended.err
    assert (place / "state").is_file()
