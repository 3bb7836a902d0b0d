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


def checkpoint(name):
    """A model and its weights as mamba_ssm would have saved them."""
    model = tiny(name, vocab_size=64, hidden_size=20)
    weights = {
        key.replace("backbone.embeddings.", "backbone.embedding."): value
        for key, value in model.state_dict().items()
    }
    return model, weights


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("tied", [True, False])
def test_weights_arrive_where_they_belong(name, tied):
    model, weights = checkpoint(name)
    if tied:
        del weights["lm_head.weight"]
    loaded = from_mamba_ssm(CONFIGS[name], weights)
    ids = tokens(2, 12)
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert loaded.config.vocab_size == 64


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
