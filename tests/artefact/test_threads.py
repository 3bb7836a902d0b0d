"""Models are loaded from several threads at once, and the process is left as it was."""

import sys
from concurrent.futures import ThreadPoolExecutor

import torch
from transformers.utils import logging

from helpers.tiny_mamba import tiny
from ssmith.artefact import load, save
from ssmith.families import model_digest


def test_loading_from_several_threads_is_safe_and_leaves_no_trace(tmp_path):
    model = tiny("mamba", tie_word_embeddings=True)
    assert model.lm_head.weight is model.backbone.embeddings.weight
    save(model, tmp_path / "tied")
    wanted = model_digest(load(tmp_path / "tied"))
    before = (torch.get_default_dtype(), logging.get_verbosity(), torch.nn.init.normal_)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: load(tmp_path / "tied"), range(24)))
    finally:
        sys.setswitchinterval(interval)
    for item in found:
        assert item.lm_head.weight is item.backbone.embeddings.weight
        assert model_digest(item) == wanted
    assert (torch.get_default_dtype(), logging.get_verbosity(), torch.nn.init.normal_) == before
    assert model_digest(load(tmp_path / "tied")) == wanted
