"""A tuning job that leaves a model, and models with a head that learn from a dense one."""

import json

import pytest
import torch

from helpers.tiny_mamba import tiny
from ssmith import api
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.settings import from_mapping
from ssmith.jobs.tuning import TuneConfig, fine_tune

pytest.importorskip("transformers")
TRAINING = {"steps": 2, "evaluate_every": 2, "rate": 0.3, "batch_size": 8}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with byte-level models and files of texts."""
    for name in ("mamba", "mamba2"):
        tiny(name, vocab_size=256).save_pretrained(tmp_path / name)
    lines = {
        "pairs": [{"prompt": f"{i % 9}+1=", "completion": f"{i % 9 + 1}"} for i in range(20)],
        "texts": [{"text": "abab" * (1 + i % 3)} for i in range(20)],
        "labels": [{"text": "ab"[i % 2] * (3 + i % 4), "label": "xy"[i % 2]} for i in range(20)],
    }
    for name, content in lines.items():
        text = "\n".join(map(json.dumps, content))
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(methods, data, **more):
    content = {"methods": methods, "data": data, "training": TRAINING, **more}
    return from_mapping(TuneConfig, content, where="settings")


def logits(model):
    ids = torch.arange(40).reshape(2, 20) % 7 + 97
    with torch.no_grad():
        return model(input_ids=ids).logits


def test_what_merges_is_a_model_stock_code_opens(place):
    transformers = pytest.importorskip("transformers")
    done = fine_tune(
        "mamba", config(["lora:out_proj"], "texts.jsonl", merge="stock"), out=place / "merged"
    )
    assert done.training.best_step > 0
    stock = transformers.MambaForCausalLM.from_pretrained("merged").eval()
    assert torch.allclose(logits(stock), logits(done.model), rtol=0, atol=1e-5)
    assert not torch.allclose(logits(stock), logits(api.load("mamba")), rtol=0, atol=1e-3)
    assert all(check.passed for check in api.verify("merged"))
    assert done.receipt.as_dict()["details"]["merge"]["held"] == []
    assert (place / "merged" / "history.json").is_file()


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_offsets_are_held_for_ssmith_alone_or_refused(place, name):
    job = {"methods": ["state-offset-hy"], "data": "pairs.jsonl"}
    with pytest.raises(UnsupportedError, match="no bias stands between"):
        fine_tune(name, config(**job, merge="stock"), out=place / "merged")
    assert not (place / "merged").exists()
    done = fine_tune(name, config(**job, merge="ssmith"), out=place / "merged")
    loaded = api.load("merged")
    assert torch.allclose(logits(loaded), logits(done.model), rtol=0, atol=1e-6)
    assert not torch.allclose(logits(loaded), logits(api.load(name)), rtol=0, atol=1e-3)
    assert len(done.receipt.as_dict()["details"]["merge"]["held"]) == 4
    with pytest.raises(InputError, match="merge is 'all'"):
        config(**job, merge="all")


def test_a_new_head_on_a_language_model_is_not_merged(place):
    with pytest.raises(UnsupportedError, match="new head"):
        fine_tune("mamba", config(["lora:out_proj"], "labels.jsonl", merge="stock"))


def test_a_pruned_sequence_model_learns_from_the_answers_of_the_dense_one(place):
    dense = api.load("embedded:power-s4d")
    with torch.no_grad():
        for layer in api.inspect(dense).layers:
            dense.get_submodule(layer.name).D.zero_()
    api.save(dense, place / "pruned")
    training = {**TRAINING, "steps": 4, "rate": 1e-3, "batch_size": 64}
    job = {"methods": ["full"], "data": "embedded:power", "training": training}
    done = fine_tune("pruned", config(**job, teacher="embedded:power-s4d", merge="stock"))
    found = done.receipt.as_dict()["quality"]["divergence"]
    assert found["after"]["value"] < found["before"]["value"]
    with pytest.raises(InputError, match="answers with outputs 10"):
        fine_tune("pruned", config(**job, teacher="embedded:digits-s5"))


def test_a_pruned_language_model_learns_from_a_dense_one_with_a_head(place):
    fine_tune("mamba", config(["state-offset-y"], "labels.jsonl"), out=place / "teacher")
    done = fine_tune("mamba", config(["state-offset-y"], "labels.jsonl", teacher="teacher"))
    assert set(done.quality.measures) >= {"loss", "divergence", "accuracy"}
    assert done.training.looks[-1].validation["divergence"] >= 0
