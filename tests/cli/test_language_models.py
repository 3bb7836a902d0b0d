"""Commands on Hugging Face models: what works on them, and what refuses them."""

import pytest

from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import tiny

pytest.importorskip("transformers")
REFUSED = [
    (("prune", "mamba", "--cut", "state=0.5", "--out", "small"), "data is missing"),
    (("compare", "model", "mamba", "--data", "data.npz"), "do not predict the same"),
]

QUICK = ("--length", "16", "--chunks", "1,5", "--following", "3")


@pytest.fixture
def place(place, capsys):
    tiny("mamba").save_pretrained(place / "mamba")
    tiny("mamba2").save_pretrained(place / "mamba2")
    capsys.readouterr()
    return place


def test_inspect_lists_the_selective_layers(place, ssmith):
    text = ssmith("inspect", "mamba2")
    assert (text.code, text.err) == (0, "")
    assert "backbone.layers.1.mixer" in text.out
    assert "runs on the engine" in text.out
    found = ssmith("inspect", "mamba2", "--json").document
    assert [layer["family"] for layer in found["layers"]] == ["mamba2", "mamba2"]
    assert found["layers"][0]["units"] == {"state": 5, "head_dim": 40, "head": 5}
    assert found["facts"]["model type"] == "mamba2"


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_parity_holds_under_the_engine(place, ssmith, name):
    ended = ssmith("parity", name, *QUICK)
    assert (ended.code, ended.err) == (0, "")
    assert "causal_conv runs on" in ended.out
    assert "every way agrees" in ended.out


def test_parity_shows_what_stock_code_does(place, ssmith):
    ended = ssmith("parity", "mamba", "--stock", "--json")
    assert ended.code == 1
    assert ended.document["passed"] is False
    assert ended.document["stock"] is True
    failed = {item["name"] for item in ended.document["checks"] if not item["passed"]}
    assert "padded on the right against alone (float32)" in failed
    assert ssmith("parity", "mamba", "--stock").out.splitlines()[-1].endswith("ways disagree")


def test_a_hybrid_is_inspected_and_compared(place, ssmith, capsys):
    tiny_hybrid("bamba").save_pretrained(place / "bamba")
    capsys.readouterr()
    facts = ssmith("inspect", "bamba", "--json").document["facts"]
    assert facts["layers"] == "2 ssm, 1 attention, 3 mlp"
    ended = ssmith("parity", "bamba", *QUICK)
    assert (ended.code, ended.err) == (0, "")
    assert "not compared: perplexity on each path; no text was given" in ended.out


def test_parity_compares_perplexity_on_a_text(place, ssmith, capsys):
    tiny("mamba", vocab_size=256).save_pretrained(place / "bytes")
    (place / "notes.txt").write_text("What was measured is written down. " * 20, encoding="utf-8")
    capsys.readouterr()
    words = (*QUICK, "--text", "notes.txt", "--tokens", "64")
    ended = ssmith("parity", "bytes", *words, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.document["text"]["scored_tokens"] == 63
    names = [item["name"] for item in ended.document["checks"]]
    assert any(name.startswith("perplexity of 63 tokens") for name in names)
    refused = ssmith("parity", "mamba", *words)
    assert (refused.code, refused.out) == (2, "")
    assert "no tokenizer" in refused.err
    assert refused.err.count("\n") == 1


def test_a_required_path_that_does_not_run_is_bad_input(place, ssmith):
    ended = ssmith("parity", "mamba2", "--require-backend", "triton")
    assert (ended.code, ended.out) == (2, "")
    assert "ssd would run on" in ended.err


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[words[0] for words, _ in REFUSED])
def test_work_on_sequence_models_refuses_them_in_one_line(place, ssmith, words, said):
    before = sorted(place.rglob("*"))
    ended = ssmith(*words)
    assert ended.code == 2, ended.err
    assert ended.err.count("\n") == 1
    assert said in ended.err
    assert sorted(place.rglob("*")) == before
