"""Commands on text: train, eval, compare and pilot of language models, and what they refuse."""

import json

import numpy as np
import pytest

from helpers.tiny_mamba import tiny

pytest.importorskip("transformers")
REFUSED = [
    (("eval", "mamba", "--data", "data.npz"), "cannot read 'data.npz' as text"),
    (("eval", "mamba", "--data", "a.txt"), "61 token ids and no tokenizer"),
    (("eval", "mamba", "--data", "ids.npy", "--metric", "rmse"), "rmse on text"),
    (("eval", "mamba", "--data", "ids.npy", "--split", "best"), "split is 'best'"),
    (("eval", "mamba", "--data", "ids.npy", "--length", "1"), "length is 1"),
    (("eval", "mamba", "--data", "large.npy"), "token id 200; allowed: ids from 0 to 60"),
    (("eval", "model", "--data", "data.npz", "--stride", "3"), "stride is for language models"),
    (("eval", "mamba"), "--data is missing"),
    (("eval", "mamba", "--data", "ids.npy", "--few-shot", "2"), "few_shot is 2 without lm_eval"),
    (("eval", "mamba", "--lm-eval", "missing.yaml"), "no task file missing.yaml"),
    (("eval", "model", "--data", "data.npz", "--lm-eval", "piqa"), "lm_eval is for language"),
    (("pilot", "model", "--data", "data.npz", "--lm-eval", "a", "--out", "o"), "lm_eval is for"),
    (("compare", "mamba", "model", "--data", "ids.npy"), "do not predict the same"),
    (
        ("compare", "mamba", "mamba", "--data", "ids.npy", "--own-metric", "a:b"),
        "own_metric is for models",
    ),
    (
        ("pilot", "mamba", "--data", "ids.npy", "--own-max-loss", "2 absolute", "--out", "o"),
        "own_max_loss is",
    ),
    (("pilot", "mamba", "--data", "ids.npy", "--cut", "heads", "--out", "o"), "unit is 'heads'"),
    (
        ("pilot", "mamba2", "--data", "ids.npy", "--cut", "entry", "--out", "o"),
        "has no entry that can be cut",
    ),
    (("pilot", "mamba", "--data", "ids.npy", "--out", "o"), "64 samples of 1024 tokens do not fit"),
    (
        ("pilot", "model", "--data", "data.npz", "--cut", "entry", "--out", "o"),
        "units are entry of S5",
    ),
]


@pytest.fixture
def place(place, capsys):
    tiny("mamba").save_pretrained(place / "mamba")
    tiny("mamba2").save_pretrained(place / "mamba2")
    ids = np.random.default_rng(0).integers(1, 61, 1000)
    np.save(place / "ids.npy", ids)
    np.save(place / "large.npy", np.append(ids, 200))
    (place / "a.txt").write_text("text")
    capsys.readouterr()
    return place


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(item[0]) for item in REFUSED])
def test_what_does_not_fit_is_refused_in_one_line(place, ssmith, words, said):
    before = sorted(place.rglob("*"))
    ended = ssmith(*words)
    assert ended.code == 2, ended.err
    assert ended.err.count("\n") == 1
    assert said in ended.err
    assert sorted(place.rglob("*")) == before


def test_eval_gives_perplexity_with_its_interval_and_where(place, ssmith):
    words = ("eval", "mamba", "--data", "ids.npy", "--length", "16", "--windows", "5")
    ended = ssmith(*words)
    assert (ended.code, ended.err) == (0, "")
    assert "5 rows of 16 tokens at stride 16, 75 counted tokens" in ended.out
    assert "selective_scan: " in ended.out
    found = ssmith(*words, "--json").document
    assert found["metric"] == "perplexity"
    assert found["estimate"]["low"] <= found["estimate"]["value"] <= found["estimate"]["high"]
    assert found["also"] == {}


def test_compare_of_a_model_with_itself_finds_no_change(place, ssmith):
    given = ("--data", "ids.npy", "--length", "16", "--windows", "4", "--speed-seconds", "0.001")
    ended = ssmith("compare", "mamba", "mamba", *given, "--out", "page")
    assert (ended.code, ended.err) == (0, "")
    assert "perplexity changes by +0.00%" in ended.out
    assert "on 4 windows" in ended.out
    assert (place / "page" / "report.html").is_file()
    receipt = ssmith("compare", "mamba", "mamba", *given, "--json").document
    assert receipt["quality"]["loss"]["value"] == 0
    assert receipt["memory"]["state_bytes_per_sequence"]["before"] > 0


def test_a_language_model_is_trained_measured_and_piloted(place, ssmith):
    (place / "squares.txt").write_text("".join(f"{n} {n * n}\n" for n in range(300)))
    fit = {"steps": 3, "batch_size": 2, "length": 16, "evaluate_every": 3}
    content = {
        "kind": "language", "data": {"text": "squares.txt"}, "fit": fit,
        "model": {"width": 8, "layers": 1, "states": 4},
    }  # fmt: skip
    (place / "recipe.json").write_text(json.dumps(content))
    ended = ssmith("train", "recipe.json", "--out", "bytes", "--checkpoint", "last.safetensors")
    assert (ended.code, ended.err) == (0, "")
    assert "bits per byte, test:" in ended.out
    assert json.loads((place / "last.safetensors.curve.json").read_text())["steps_done"] == 3
    ended = ssmith("eval", "bytes", "--data", "squares.txt", "--length", "16")
    assert "bits per byte: " in ended.out
    ended = ssmith(
        "pilot", "bytes", "--data", "squares.txt", "--length", "16", "--samples", "4",
        "--windows", "4", "--test-windows", "4", "--at", "0.5", "--baselines", "",
        "--max-loss", "900 %", "--speed-seconds", "0.001", "--out", "pilot",
    )  # fmt: skip
    assert ended.code in (0, 1)
    assert ended.err == ""
    assert "passed quality" in ended.out
    assert ssmith("verify", "pilot/model").code == 0
