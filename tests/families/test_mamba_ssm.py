"""Checkpoints of the mamba_ssm package: the same weights under Hugging Face's names."""

import pytest
import torch

from helpers.tiny_mamba import tiny, tokens
from ssmith.core.errors import ModelError
from ssmith.families.hf import from_mamba_ssm

pytest.importorskip("transformers")

COMMON = {"d_model": 20, "n_layer": 2, "vocab_size": 61, "pad_vocab_size_multiple": 8}
CONFIGS = {
    "mamba": {**COMMON, "ssm_cfg": {"d_state": 5}},
    "mamba2": {**COMMON, "ssm_cfg": {"layer": "Mamba2", "d_state": 5, "headdim": 8}},
}


def checkpoint(name, tied=True):
    """A model and its weights as mamba_ssm would have saved them."""
    model = tiny(name, vocab_size=64, hidden_size=20, tie_word_embeddings=tied)
    weights = {
        key.replace("backbone.embeddings.", "backbone.embedding."): value
        for key, value in model.state_dict().items()
    }
    return model, weights


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("tied", [True, False])
def test_weights_arrive_where_they_belong(name, tied):
    model, weights = checkpoint(name, tied)
    if tied:
        del weights["lm_head.weight"]
    loaded = from_mamba_ssm({**CONFIGS[name], "tie_embeddings": tied}, weights)
    ids = tokens(2, 12)
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, model(ids).logits, rtol=0, atol=1e-5)
    assert loaded.config.vocab_size == 64


def test_a_head_that_is_not_the_embedding_is_refused_where_they_are_tied():
    _, weights = checkpoint("mamba")
    weights["lm_head.weight"] = weights["lm_head.weight"] + 1
    with pytest.raises(ModelError, match="tie_embeddings"):
        from_mamba_ssm(CONFIGS["mamba"], weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": None}, "lacks"),
        ({"ssm_cfg": {"layer": "Mamba9"}}, "Mamba9"),
        ({"ssm_cfg": {"d_state": 5, "mystery": 1}}, "mystery"),
        ({"attn_layer_idx": [1]}, "attention"),
        ({"rms_norm": False}, "LayerNorm"),
        ({"ssm_cfg": {"d_state": 6}}, "do not fit"),
    ],
)
def test_what_has_no_counterpart_is_refused(change, message):
    _, weights = checkpoint("mamba")
    config = {**CONFIGS["mamba"], **change}
    config = {key: value for key, value in config.items() if value is not None}
    with pytest.raises(ModelError, match=message):
        from_mamba_ssm(config, weights)
