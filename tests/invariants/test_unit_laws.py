"""The laws of units, over the registry: a table that obeys them may be cut by."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.every_unit import CASES, MODELS, build, units_of
from helpers.models import FAMILIES as LTI_KINDS
from helpers.models import make_input, make_model
from helpers.tiny_mamba import tiny, tokens
from ssmith.core.errors import PlanError, UnsupportedError
from ssmith.families import sites, stock_configs, sync_config_
from ssmith.families.coupling import mask_, present, shrink_, spread, weigh
from ssmith.families.hf import engine
from ssmith.families.hf.double import in_double
from ssmith.families.hf.running import logits_in_chunks

IDS = tokens(2, 9)


def logits(model, ids=IDS):
    with torch.no_grad(), in_double(model) as wide:
        return wide(input_ids=ids, use_cache=False).logits


def some(coupling, seed, share=0.5):
    """A random mask that takes as many units from each part as from the others."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.rand(coupling.per_block, coupling.count // coupling.per_block, generator=draw)
    keep = rows.argsort(1) < max(1, round(rows.shape[1] * share))
    return keep.view(coupling.grid)


def having(model, unit):
    """Site and table of every layer that has a unit."""
    for site in sites(model).values():
        for coupling in site.couplings:
            if coupling.unit == unit:
                yield site, coupling


def cut_everywhere_(model, unit, mode, seed=0):
    """Cut a unit in every site that has it; return the masks."""
    keeps = {}
    for number, (site, coupling) in enumerate(having(model, unit)):
        keep = some(coupling, seed + number)
        keeps[site.name] = keep
        site.cut_(coupling, keep, mode)
    assert keeps
    return keeps


def test_every_family_has_its_units():
    found = {name: set(units_of(name)) for name in MODELS}
    hybrid = {"state", "head", "head_dim", "neuron"}
    assert found["mamba2"] == {"state", "head", "head_dim"}
    attends = hybrid | {"kv_group"}
    assert all(attends == found[name] for name in ("bamba", "falcon_h1", "nemotron_h"))
    assert found["granitemoehybrid"] == attends | {"expert", "expert_neuron"}
    assert found["nemotron_h with experts"] == attends | {"expert", "expert_neuron"}
    assert found["zamba2"] == hybrid
    # The block that holds its neurons stands in several places.
    assert found["zamba"] == {"state", "head"}
    assert found["mamba"] == found["falcon_mamba"] == {"state", "channel"}
    assert found["jamba"] == {"state", "channel", "kv_group", "neuron", "expert", "expert_neuron"}


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_shrunk_is_masked(name, unit):
    dense = build(name)
    if not all("mask" in coupling.modes for _, coupling in having(dense, unit)):
        pytest.skip("only shrinks")
    shrunk, masked = copy.deepcopy(dense), copy.deepcopy(dense)
    keeps = cut_everywhere_(shrunk, unit, "shrink")
    cut_everywhere_(masked, unit, "mask")
    out = logits(shrunk)
    torch.testing.assert_close(out, logits(masked), rtol=0, atol=1e-11)
    assert (out - logits(dense)).abs().max() > 1e-6
    for site, coupling in having(masked, unit):
        assert torch.equal(site.present(coupling), keeps[site.name])
        # What was silent goes, and the norms over it forget it.
        site.cut_(coupling, keeps[site.name], "shrink")
    torch.testing.assert_close(out, logits(masked), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_permuted_units_are_the_same_layer(name, unit):
    model = build(name)
    before = logits(model)
    moved = 0
    for site, coupling in having(model, unit):
        each = coupling.count // coupling.per_block
        order = torch.arange(coupling.count).view(coupling.per_block, each).roll(1, 1)
        units = torch.arange(coupling.count)
        for item in coupling.slices:
            owner, _, last = item.parameter.rpartition(".")
            value = getattr(site.module.get_submodule(owner), last)
            lines = item.lines(value.data)
            index = torch.arange(len(lines))
            index[item.places(units).flatten()] = item.places(order.flatten()).flatten()
            value.data = item.laid(lines[index], len(value)).contiguous()
            moved += int((index != torch.arange(len(index))).sum())
    assert moved
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_what_goes_is_what_was_weighed(name, unit):
    model = build(name)
    before = sum(parameter.numel() for parameter in model.parameters())
    gone = 0
    for site, coupling in having(model, unit):
        keep = some(coupling, 0)
        said = weigh(site.module, coupling, int((~keep).sum()))
        gone += said["parameters"]
        # The bias by which a router chooses is saved, and not learned.
        beside = int((~keep).sum()) if "e_score_correction_bias" in str(coupling) else 0
        assert said["bytes"] == 8 * (said["parameters"] + beside)
        site.cut_(coupling, keep)
    assert gone
    assert sum(parameter.numel() for parameter in model.parameters()) == before - gone


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_a_cut_model_generates_with_and_without_a_cache(name, unit):
    model = build(name, torch.float32)
    cut_everywhere_(model, unit, "shrink")
    model.generation_config.max_new_tokens = 4
    model.generation_config.do_sample = False
    runs = [model.generate(IDS, use_cache=cached) for cached in (True, False)]
    assert torch.equal(*runs)
    whole = model(input_ids=IDS, use_cache=False).logits
    with engine(model), torch.no_grad():
        assert torch.equal(model.generate(IDS, use_cache=True), runs[0])
        ours = model(input_ids=IDS, use_cache=False).logits
        torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)
        for chunk in (4, 1):
            pieces = logits_in_chunks(model, IDS, chunk)
            torch.testing.assert_close(pieces, ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_stock_code_opens_what_the_table_says_it_does(name, unit, tmp_path):
    model = build(name, torch.float32)
    before = stock_configs(model)
    tables = [coupling for _, coupling in having(model, unit)]
    cut_everywhere_(model, unit, "shrink")
    sync_config_(model, before)
    if not all(table.config_keys for table in tables):
        pytest.skip("stock configurations cannot say it")
    model.save_pretrained(tmp_path)
    again, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    again.config._experts_implementation = model.config._experts_implementation
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        out = [item.eval()(input_ids=IDS, use_cache=False).logits for item in (model, again)]
    torch.testing.assert_close(*out, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mamba2", "bamba"])
def test_cuts_of_several_units_add_up(name, tmp_path):
    model = build(name, torch.float32)
    before = stock_configs(model)
    keep_heads = cut_everywhere_(model, "head", "shrink")
    cut_everywhere_(model, "state", "shrink", seed=3)
    sync_config_(model, before)
    assert keep_heads
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        out = [item(input_ids=IDS, use_cache=False).logits for item in (model, again)]
    torch.testing.assert_close(*out, rtol=0, atol=0)


@pytest.mark.parametrize("kind", LTI_KINDS, ids=str)
def test_shrunk_is_masked_in_layers_of_ours(kind):
    dense = make_model(kind)
    u = make_input(dense)
    shrunk, masked = copy.deepcopy(dense), copy.deepcopy(dense)
    keeps = cut_everywhere_(shrunk, "state", "shrink")
    cut_everywhere_(masked, "state", "mask")
    torch.testing.assert_close(shrunk(u), masked(u), rtol=0, atol=1e-12)
    for name, keep in keeps.items():
        before, after, silent = (sites(model)[name] for model in (dense, shrunk, masked))
        assert torch.equal(silent.present(silent.coupling("state")), keep)
        assert after.info().units["state"] == int(keep.sum())
        # A masked model takes what was fitted to the shrunk one.
        table = before.coupling("state")
        for item in table.slices:
            small, large = (s.module.get_parameter(item.parameter) for s in (after, before))
            assert torch.equal(spread(table, item.parameter, small, keep, large), large)


def test_norms_over_states_that_have_no_weight_count_what_is_left():
    dense = build("falcon_mamba")
    shrunk, silent = copy.deepcopy(dense), copy.deepcopy(dense)
    for name, keep in cut_everywhere_(shrunk, "state", "shrink").items():
        mixer = silent.get_submodule(name)
        for norm in (mixer.b_layernorm, mixer.c_layernorm):

            def over_kept(x, keep=keep, norm=norm):
                mean = x[..., keep].square().mean(-1, keepdim=True)
                return torch.where(keep, x * torch.rsqrt(mean + norm.eps), 0.0)

            norm.forward = over_kept
    torch.testing.assert_close(logits(shrunk), logits(silent), rtol=0, atol=1e-12)
    site, coupling = next(having(dense, "state"))
    with pytest.raises(UnsupportedError, match="mode='mask'"):
        site.cut_(coupling, some(coupling, 0), "mask")


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_values_of_a_cut_are_laid_out_in_a_masked_model(name, unit):
    model = build(name)
    for site, coupling in having(model, unit):
        keep = some(coupling, 3)
        names = dict.fromkeys(item.parameter for item in coupling.slices)
        before = {item: _tensor(site.module, item).clone() for item in names}
        site.cut_(coupling, keep, "shrink")
        for item, large in before.items():
            small = _tensor(site.module, item)
            full = spread(coupling, item, small * 2, keep, large)
            gone = full.numel() - small.numel()
            assert torch.equal(spread(coupling, item, small, keep, large), large)
            assert int((full == large).sum()) == gone + int((small == 0).sum())


def _tensor(module, name):
    owner, _, last = name.rpartition(".")
    return getattr(module.get_submodule(owner), last).detach()


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
@given(data=st.data())
@settings(deadline=None, max_examples=12)
def test_any_two_masks_then_the_rest_gone_is_their_meeting(name, data):
    """Masks join, and shrinking by what is present equals shrinking at once."""
    model = build(name)
    model.backbone.layers = model.backbone.layers[:1]
    for unit in units_of(name):
        dense = copy.deepcopy(next(having(model, unit))[0].module)
        table = next(having(model, unit))[1]
        each = table.count // table.per_block
        order = torch.stack(
            [torch.tensor(data.draw(st.permutations(range(each)))) for _ in range(table.per_block)]
        )
        most = data.draw(st.integers(1, each))
        left = data.draw(st.integers(1, most))
        first, both = ((order < count).view(table.grid) for count in (most, left))
        one, two = copy.deepcopy(dense), dense
        mask_(two, table, first)
        mask_(two, table, both)
        assert torch.equal(present(two, table), both)
        shrink_(two, table, both)
        shrink_(one, table, both)
        for key, mine in one.state_dict().items():
            theirs = two.state_dict()[key]
            torch.testing.assert_close(mine, theirs, rtol=1e-13, atol=0, msg=key)


def test_masks_that_do_not_fit_are_refused():
    site, head = next(having(build("mamba2"), "head"))
    with pytest.raises(PlanError, match="as many in each of them"):
        site.cut_(head, torch.tensor([True, False, True, True]))
    with pytest.raises(PlanError, match=r"shape \(3,\); allowed: bool, \(4,\)"):
        site.cut_(head, torch.ones(3, dtype=torch.bool))
    with pytest.raises(PlanError, match="keeps no head"):
        site.cut_(head, torch.zeros(4, dtype=torch.bool))
    with pytest.raises(PlanError, match="no head would be left that no mask silences"):
        site.cut_(head, torch.zeros(4, dtype=torch.bool), "mask")


def test_what_a_site_has_not_is_refused_with_what_it_has():
    site = next(iter(sites(tiny("mamba")).values()))
    with pytest.raises(UnsupportedError, match=r"no head.*state, entry, weight"):
        site.coupling("head")
    with pytest.raises(UnsupportedError, match=r"no weight of y_proj.weight.*weight of in_proj"):
        site.coupling("weight", "y_proj.weight")
    with pytest.raises(UnsupportedError, match="mode='shrink'"):
        entry = site.coupling("entry")
        site.cut_(entry, torch.ones(entry.grid, dtype=torch.bool), "shrink")
