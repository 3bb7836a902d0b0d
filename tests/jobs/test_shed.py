"""Removal of whole blocks against trying every block by hand."""

import copy
import math

import pytest
import torch

from helpers.tiny_mamba import tiny
from ssmith.core.errors import InputError
from ssmith.core.tokens import TokenWindows
from ssmith.evaluate.perplexity import window_losses
from ssmith.families.hf.depth import block_count, without_block
from ssmith.jobs.selective.shed import shed_blocks_


def windows():
    ids = torch.randint(1, 61, (4, 16), generator=torch.Generator().manual_seed(0))
    return TokenWindows(
        ids=ids, lengths=torch.full((4,), 16), scored_from=torch.ones(4, dtype=torch.long),
        text_bytes=None, vocabulary=61, name="random tokens",
    )  # fmt: skip


def perplexity(model):
    return math.exp(float(window_losses(model, windows()).sum()) / windows().scored)


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_the_block_that_is_missed_least_goes_first(name):
    model = tiny(name, dtype=torch.float64, num_hidden_layers=4)
    tried = []
    for place in range(4):
        with without_block(model, place):
            tried.append(perplexity(model))
    assert block_count(model) == 4
    receipt = shed_blocks_(copy.deepcopy(model), windows(), 1)
    first = receipt.details["steps"][1]
    assert first["removed"] == tried.index(min(tried))
    assert first["perplexity"] == pytest.approx(min(tried))


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_what_is_left_is_a_shallower_model_that_opens_everywhere(name, tmp_path):
    model = tiny(name, dtype=torch.float64, num_hidden_layers=4)
    receipt = shed_blocks_(model, windows(), 2)
    assert receipt.removed["blocks"] == {"before": 4, "after": 2, "fraction": 0.5}
    assert receipt.details["steps"][-1]["perplexity"] == pytest.approx(perplexity(model))
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, dtype=torch.float64)
    ids = windows().ids
    with torch.no_grad():
        assert torch.equal(again.eval()(ids).logits, model(ids).logits)
        made = model.generate(ids[:1, :4], max_new_tokens=3, do_sample=False)
        assert torch.equal(again.generate(ids[:1, :4], max_new_tokens=3, do_sample=False), made)


@pytest.mark.parametrize("blocks", [0, 2, 5])
def test_a_number_of_blocks_that_cannot_go_is_said(blocks):
    model = tiny("mamba")
    with pytest.raises(InputError, match="1 to 1"):
        shed_blocks_(model, windows(), blocks)
    assert block_count(model) == 2
