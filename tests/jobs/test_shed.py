"""Removal of whole blocks against trying every block by hand."""

import contextlib
import copy
import math

import pytest
import torch
from ssmith.families.hf.depth import block_count, without_block
from ssmith.jobs.selective import shed
from ssmith.jobs.selective.shed import shed_blocks_

from helpers.tiny_mamba import tiny
from ssmith.core.errors import InputError
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.perplexity import window_losses


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


def test_a_removal_that_was_killed_measures_nothing_twice(tmp_path, monkeypatch):
    wanted = shed_blocks_(tiny("mamba", num_hidden_layers=4), windows(), 2)
    measured, real, patience = [], window_losses, [4, 4, 99, 99]

    def counting(model, given):
        measured.append(1)
        if len(measured) == patience[0]:
            raise KeyboardInterrupt
        return real(model, given)

    monkeypatch.setattr(shed, "window_losses", counting)
    found = None
    # Of 1 + 4 + 3 measurements.
    while found is None:
        measured.clear()
        with contextlib.suppress(KeyboardInterrupt):
            found = shed_blocks_(
                tiny("mamba", num_hidden_layers=4), windows(), 2, work_dir=tmp_path / "work"
            )
        patience.pop(0)
    assert (len(patience), len(measured)) == (1, 2)
    assert found.details == wanted.details
    assert found.model == wanted.model
    measured.clear()
    shed_blocks_(tiny("mamba", num_hidden_layers=4), windows(), 1, work_dir=tmp_path / "work")
    assert not measured


def test_a_directory_of_something_else_is_refused(tmp_path):
    shed_blocks_(tiny("mamba"), windows(), 1, work_dir=tmp_path / "work")
    with pytest.raises(InputError, match="over another model or text"):
        shed_blocks_(tiny("mamba", seed=1), windows(), 1, work_dir=tmp_path / "work")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        shed_blocks_(tiny("mamba"), windows(), 1, work_dir=tmp_path / "mine")


@pytest.mark.parametrize("blocks", [0, 2, 5])
def test_a_number_of_blocks_that_cannot_go_is_said(blocks):
    model = tiny("mamba")
    with pytest.raises(InputError, match="allowed: 1, as one stays"):
        shed_blocks_(model, windows(), blocks)
    assert block_count(model) == 2
