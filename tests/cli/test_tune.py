"""``ssmith tune``: a run as a user makes it, and one clear line for everything that is wrong."""

import json

import pytest

from helpers.tiny_mamba import tiny

pytest.importorskip("transformers")
TUNE = ("tune", "base", "--data", "sums.jsonl", "--out", "tuned", "--steps", "2")


@pytest.fixture
def place(place, capsys):
    tiny("mamba", vocab_size=256).save_pretrained(place / "base")
    tiny("mamba").save_pretrained(place / "odd")
    lines = [{"prompt": f"{i % 9}+1=", "completion": str(i % 9 + 1)} for i in range(20)]
    text = "\n".join(map(json.dumps, lines))
    (place / "sums.jsonl").write_text(text, encoding="utf-8")
    (place / "bad.jsonl").write_text('{"prompt": "a"}\n', encoding="utf-8")
    (place / "wrong.yaml").write_text("methods: [bitfit]\nstep: 3\n", encoding="utf-8")
    capsys.readouterr()
    return place


def test_it_tunes_says_what_it_did_and_leaves_an_adapter(place, ssmith):
    ended = ssmith(*TUNE, "--method", "state-offset-h,lora:out_proj", "--rate", "0.01")
    assert (ended.code, ended.err) == (0, "")
    assert "ssm 2/2" in ended.out
    assert "tensors act and learn" in ended.out
    assert "rate of state-offset-h: 0.01 with muon (given)" in ended.out
    assert "rate of lora: 0.01 with adamw (given)" in ended.out
    assert "best step" in ended.out
    assert (place / "tuned" / "adapter_model.safetensors").is_file()
    assert ssmith("inspect", "tuned").code == 0
    again = ssmith(*TUNE, "--method", "bitfit")
    assert again.code == 2
    assert "already exists" in again.err


def test_its_document_is_the_receipt(place, ssmith):
    found = ssmith(*TUNE, "--method", "state-offset-y", "--json").document
    assert found["adapter"] == "tuned"
    assert found["receipt"]["action"] == "tune"
    assert found["receipt"]["method"]["rates"]["state-offset-y"]["source"].startswith("measured")
    assert found["receipt"]["data"]["details"]["tokenizer"] == "bytes"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "state-ofset-h"), "state-offset-h"),
        ((), "--method is missing"),
        (("--method", "lora:out_prj"), "out_proj"),
        (("--method", "state-offset-h", "--rate", "-1"), "rate is -1"),
        (("--method", "state-offset-h", "--epochs", "3"), "steps and epochs"),
        (("--method", "state-offset-h", "--device", "tpu"), "device is 'tpu'"),
        (("--method", "state-offset-h", "--teacher", "odd"), "token ids"),
        (("--method", "state-offset-h", "--recipe", "wrong.yaml"), "unknown setting 'step'"),
        (("--method", "state-offset-h", "--recipe", "gone.yaml"), "cannot read gone.yaml"),
        (("--method", "state-offset-h", "--merge", "all"), "merge is 'all'"),
        (("--method", "state-offset-h", "--merge", "stock"), "no bias stands between"),
        (("--method", "state-offset-h", "--data", "bad.jsonl"), "line 1 has prompt"),
        (("--method", "state-offset-h", "--data", "gone.jsonl"), "no file"),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(place, ssmith, words, said):
    ended = ssmith(*TUNE, *words)
    assert ended.code == 2
    assert ended.err.count("\n") == 1
    assert said in ended.err
    assert not (place / "tuned").exists()


def test_a_model_without_a_tokenizer_is_told_what_it_lacks(place, ssmith):
    ended = ssmith("tune", "odd", *TUNE[2:], "--method", "bitfit")
    assert ended.code == 2
    assert "61 token ids and no tokenizer" in ended.err
