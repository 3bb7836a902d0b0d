"""Cutting a selective layer: what flows through it, what a cut does, and that it lasts."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from helpers.selective import every_state
from helpers.tiny_mamba import tiny, tokens
from ssmith.core.errors import InputError, PlanError, UnsupportedError
from ssmith.core.selective import STORED_A_LOG
from ssmith.families.hf import engine
from ssmith.families.mamba.family import cut_
from ssmith.families.masks import mask_of, masks_of
from ssmith.families.registry import find_selective
from ssmith.families.state import restore_, state_of
from ssmith.ops.selective_scan import selective_scan
from ssmith.surgery.columns import shrink_

pytest.importorskip("transformers")
NAMES = ("mamba", "falcon_mamba")
# transformers rounds norms and logits of a float64 model to float32: one such rounding may flip.
FLOAT64 = 2e-6


@pytest.fixture(params=NAMES)
def model(request):
    return tiny(request.param, dtype=torch.float64)


def logits(model, ids, *, stock=False):
    with torch.no_grad():
        if stock:
            return model(ids).logits
        with engine(model):
            return model(ids).logits


def first(model, ids):
    """The first block, its mixer's layer, what the block is given and what the mixer is."""
    block = model.backbone.layers[0]
    hidden = model.get_input_embeddings()(ids)
    layer = next(iter(find_selective(model).values()))
    return block, layer, hidden, block.norm(hidden)


@torch.no_grad()
def first_parts(model, ids):
    _, layer, _, given = first(model, ids)
    return layer, layer.parts(given)


def some(layer, seed=0):
    return torch.rand(layer.e, layer.n, generator=torch.Generator().manual_seed(seed)) > 0.4


def test_parts_are_the_mixer(model):
    with torch.no_grad(), engine(model):
        _, layer, _, given = first(model, tokens(2, 15))
        y, _ = selective_scan(layer.parts(given).scan)
        assert (layer.mixer.out_proj(y) - layer.mixer(given)).abs().max() < FLOAT64


def test_branches_hold_all_that_the_rest_of_a_mixer_needs(model):
    """Before and after cuts of states, which leave them as they are."""
    with torch.no_grad(), engine(model):
        block, layer, hidden, given = first(model, tokens(2, 15))
        branches = layer.branches(given)
        cuts = (
            lambda: None,
            lambda: cut_(layer, "entry", some(layer), semantics="memoryless"),
            lambda: cut_(layer, "state", torch.arange(layer.n) != 1),
            lambda: setattr(block.mixer, "state_offset", torch.ones(layer.e, layer.n).double()),
        )
        for cut in cuts:
            cut()
            if cut is cuts[2]:
                with pytest.raises(InputError, match="dt has shape"):
                    layer.output(branches)
                branches = branches.only({"x", "z"})
            whole = layer.parts(given)
            for name in ("x", "dt", "B", "C", "z"):
                mine = getattr(layer.parts_of(branches).scan, name)
                torch.testing.assert_close(mine, getattr(whole.scan, name))
            made = hidden + layer.output(branches)
            torch.testing.assert_close(made, block(hidden))


def one_more(layer, x):
    return nn.functional.linear(x, layer.weight, layer.bias) + 1.0


ATTACHED = {
    "a hook": lambda layer: layer.register_forward_hook(lambda part, given, out: out + 1.0),
    "a hook before it": lambda layer: layer.register_forward_pre_hook(lambda part, x: x[0] + 1.0),
    "another forward": lambda layer: setattr(layer, "forward", partial(one_more, layer)),
}


@pytest.mark.parametrize("projection", ["in_proj", "out_proj"])
@pytest.mark.parametrize("attached", ATTACHED)
def test_what_is_attached_to_a_projection_takes_part_from_the_branches_on(
    model, projection, attached
):
    with torch.no_grad(), engine(model):
        block, layer, hidden, given = first(model, tokens(2, 15))
        before = block(hidden)
        ATTACHED[attached](getattr(block.mixer, projection))
        made = layer.output(layer.branches(given))
        wanted = block(hidden)
        assert (wanted - before).abs().max() > 1e-4
        torch.testing.assert_close(hidden + made, wanted)


def test_cutting_an_entrys_memory_changes_the_output_by_exactly_what_it_held(model):
    """δy = −Σ C Ā h over the cut entries, with the dense h: exact, not first order."""
    layer, dense = first_parts(model, tokens(2, 15))
    keep = some(layer)
    A_bar, before, _ = every_state(dense.scan)
    gate = torch.nn.functional.silu(dense.scan.z)
    lost = (dense.scan.C[:, :, None] * A_bar * before * ~keep).sum(-1) * gate
    y_dense, _ = selective_scan(dense.scan)
    cut_(layer, "entry", keep, semantics="memoryless")
    _, cut = first_parts(model, tokens(2, 15))
    y_cut, _ = selective_scan(cut.scan)
    assert lost.abs().max() > 1e-4
    torch.testing.assert_close(y_cut, y_dense - lost, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("semantics", list(STORED_A_LOG))
def test_stock_code_runs_cut_entries_with_the_same_semantics(model, semantics):
    layers, ids = find_selective(model), tokens(2, 15)
    for layer in layers.values():
        cut_(layer, "entry", some(layer), semantics=semantics)
        cut = layer.mixer.A_log[~layer.present]
        assert torch.equal(cut, torch.full_like(cut, STORED_A_LOG[semantics]))
        assert layer.semantics == semantics
    assert (logits(model, ids) - logits(model, ids, stock=True)).abs().max() < FLOAT64


def test_shrunk_columns_equal_columns_whose_B_and_C_are_zero():
    model, ids = tiny("mamba", dtype=torch.float64), tokens(2, 15)
    keep = torch.tensor([True, False, True, True, False])
    masked = copy.deepcopy(model)
    for layer in find_selective(masked).values():
        weight = layer.mixer.x_proj.weight.data
        rank = weight.shape[0] - 2 * layer.n
        weight[rank:][~keep.repeat(2)] = 0
    for layer in find_selective(model).values():
        cut_(layer, "state", keep)
        assert (layer.n, layer.mixer.x_proj.weight.shape[0]) == (3, 2 + 2 * 3)
    assert (logits(model, ids) - logits(masked, ids)).abs().max() < FLOAT64
    assert (logits(model, ids, stock=True) - logits(masked, ids)).abs().max() < FLOAT64


def test_shrinking_takes_masks_along_and_new_rows_in(model):
    layer = next(iter(find_selective(model).values()))
    keep_entries, keep = some(layer), torch.tensor([True, True, False, True, False])
    cut_(layer, "entry", keep_entries, semantics="memoryless")
    weight = layer.mixer.x_proj.weight
    rows = torch.arange(len(weight))[:, None].expand_as(weight)
    cut_(layer, "weight", rows % 3 > 0, target="x_proj.weight")
    C = torch.randn(3, layer.e, dtype=torch.float64)
    before = mask_of(layer.mixer.x_proj, "weight")
    shrink_(layer, keep, C=C)
    assert torch.equal(layer.present, keep_entries[:, keep])
    rank = len(before) - 2 * len(keep)
    rows = torch.cat([torch.ones(rank, dtype=torch.bool), keep, keep])
    assert torch.equal(mask_of(layer.mixer.x_proj, "weight"), before[rows])
    assert torch.equal(layer.mixer.x_proj.weight[-3:], C * before[rows][-3:])


def test_masks_survive_an_optimiser_a_copy_and_half_precision():
    model, ids = tiny("mamba"), tokens(2, 15)
    for layer in find_selective(model).values():
        cut_(layer, "entry", some(layer), semantics="memoryless")
        keep = torch.rand_like(layer.mixer.in_proj.weight) > 0.5
        cut_(layer, "weight", keep, target="in_proj.weight")
    trained = copy.deepcopy(model).train()
    optimiser = torch.optim.AdamW(trained.parameters(), lr=0.1, weight_decay=0.5)
    with engine(trained):
        for _ in range(2):
            trained(ids, labels=ids).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
        trained(ids)
    assert not torch.equal(trained.lm_head.weight, model.lm_head.weight)
    found = list(masks_of(trained.to(torch.bfloat16)))
    assert len(found) == 4
    for name, mask, fill in found:
        value = trained.get_parameter(name)
        assert bool((value[~mask] == fill).all()), name
        assert bool((value[mask] != fill).any()), name
    assert set(trained.state_dict()) == set(tiny("mamba").state_dict())


def test_a_site_becomes_what_another_one_was(model):
    twin = copy.deepcopy(model)
    layer = list(find_selective(model).values())[1]
    cut_(layer, "entry", some(layer), semantics="memoryless")
    cut_(layer, "state", torch.arange(layer.n) < 2)
    layer.mixer.in_proj.weight.data *= 2
    restore_(twin.backbone.layers[1].mixer, state_of(model.backbone.layers[1].mixer))
    other = list(find_selective(twin).values())[1]
    assert (other.n, other.semantics) == (2, "memoryless")
    assert torch.equal(other.present, layer.present)
    assert torch.equal(logits(twin, tokens(1, 9)), logits(model, tokens(1, 9)))


def test_what_cannot_be_cut_is_refused_by_name(model):
    layer = next(iter(find_selective(model).values()))
    cut_(layer, "entry", some(layer), semantics="memoryless")
    with pytest.raises(PlanError, match="'memoryless', not 'fast-decay'"):
        cut_(layer, "entry", some(layer, 1), semantics="fast-decay")
    with pytest.raises(InputError, match="semantics is 'remove'"):
        cut_(layer, "entry", some(layer), semantics="remove")
    with pytest.raises(PlanError, match="a mask of entry"):
        cut_(layer, "entry", torch.ones(2, 2, dtype=torch.bool), semantics="memoryless")
    with pytest.raises(PlanError, match="keeps no state"):
        cut_(layer, "state", torch.zeros(5, dtype=torch.bool))
    with pytest.raises(UnsupportedError, match="one number per head"):
        find_selective(tiny("mamba2"))
    with pytest.raises(UnsupportedError, match="Linear has no layer with an A_log"):
        find_selective(torch.nn.Linear(2, 2))
