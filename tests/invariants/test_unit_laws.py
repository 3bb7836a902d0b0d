"""The laws of units, over the registry: a table that obeys them may be cut by."""

import copy

import pytest
import torch

from helpers.models import FAMILIES as LTI_KINDS
from helpers.models import make_input, make_model
from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import tiny, tokens
from ssmith.core.errors import UnsupportedError
from ssmith.families import sites
from ssmith.families.coupling import spread, weigh
from ssmith.families.hf.double import in_double

MAMBA = ("mamba", "falcon_mamba", "jamba")


def language_model(name):
    build = tiny_hybrid if name == "jamba" else tiny
    return build(name, dtype=torch.float64)


def logits(model, ids):
    with torch.no_grad(), in_double(model) as wide:
        return wide(input_ids=ids, use_cache=False).logits


def some(coupling, seed, share=0.5):
    """A random mask that takes as many units from each part as from the others."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.rand(coupling.per_block, coupling.count // coupling.per_block, generator=draw)
    keep = rows.argsort(1) < max(1, round(rows.shape[1] * share))
    return keep.view(coupling.grid)


def cut_everywhere_(model, unit, mode, seed=0):
    """Cut a unit in every site that has it; return the masks."""
    keeps = {}
    for number, (name, site) in enumerate(sites(model).items()):
        have = [item for item in site.couplings if item.unit == unit]
        for coupling in have:
            keep = some(coupling, seed + number)
            keeps[name, coupling.target] = keep
            site.cut_(coupling, keep, mode)
    assert keeps
    return keeps


@pytest.mark.parametrize("name", ["mamba", "jamba"])
def test_shrunk_is_masked(name):
    dense, ids = language_model(name), tokens(2, 9)
    shrunk, masked = copy.deepcopy(dense), copy.deepcopy(dense)
    cut_everywhere_(shrunk, "state", "shrink")
    cut_everywhere_(masked, "state", "mask")
    out = logits(shrunk, ids)
    torch.testing.assert_close(out, logits(masked, ids), rtol=0, atol=1e-12)
    assert (out - logits(dense, ids)).abs().max() > 1e-6


@pytest.mark.parametrize("kind", LTI_KINDS, ids=str)
def test_shrunk_is_masked_in_layers_of_ours(kind):
    dense = make_model(kind)
    u = make_input(dense)
    shrunk, masked = copy.deepcopy(dense), copy.deepcopy(dense)
    keeps = cut_everywhere_(shrunk, "state", "shrink")
    cut_everywhere_(masked, "state", "mask")
    torch.testing.assert_close(shrunk(u), masked(u), rtol=0, atol=1e-12)
    for (name, _), keep in keeps.items():
        before, after, silent = (sites(model)[name] for model in (dense, shrunk, masked))
        assert torch.equal(silent.present(silent.coupling("state")), keep)
        assert after.info().units["state"] == int(keep.sum())
        # A masked model takes what was fitted to the shrunk one.
        table = before.coupling("state")
        for item in table.slices:
            small, large = (s.module.get_parameter(item.parameter) for s in (after, before))
            full = spread(table, item.parameter, small, keep, large)
            assert torch.equal(full, large)


@pytest.mark.parametrize("name", MAMBA)
def test_what_goes_is_what_was_weighed(name):
    model = language_model(name)
    before = sum(parameter.numel() for parameter in model.parameters())
    for site in sites(model).values():
        for coupling in site.couplings:
            if coupling.unit == "state":
                before -= weigh(site.module, coupling, 2)["parameters"]
                site.cut_(coupling, torch.arange(coupling.count) >= 2)
    assert sum(parameter.numel() for parameter in model.parameters()) == before


def test_norms_over_states_that_have_no_weight_count_what_is_left():
    dense, ids = language_model("falcon_mamba"), tokens(2, 9)
    shrunk, silent = copy.deepcopy(dense), copy.deepcopy(dense)
    keeps = cut_everywhere_(shrunk, "state", "shrink")
    for (name, _), keep in keeps.items():
        mixer = silent.get_submodule(name)
        for norm in (mixer.b_layernorm, mixer.c_layernorm):

            def over_kept(x, keep=keep, norm=norm):
                mean = x[..., keep].square().mean(-1, keepdim=True)
                return torch.where(keep, x * torch.rsqrt(mean + norm.eps), 0.0)

            norm.forward = over_kept
    with torch.no_grad(), in_double(silent) as wide:
        expected = wide(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(logits(shrunk, ids), expected, rtol=0, atol=1e-12)
    coupling = (site := next(iter(sites(dense).values()))).coupling("state")
    with pytest.raises(UnsupportedError, match="mode='mask'"):
        site.cut_(coupling, some(coupling, 0), "mask")


@pytest.mark.parametrize("name", ["mamba", "jamba"])
def test_masked_then_shrunk_is_shrunk(name):
    once, twice = language_model(name), language_model(name)
    keeps = cut_everywhere_(twice, "state", "mask")
    before = [item for site in sites(twice).values() for item in site.couplings]
    for site in sites(twice).values():
        if (site.name, "") in keeps:
            coupling = site.coupling("state")
            keep = site.present(coupling)
            assert torch.equal(keep, keeps[site.name, ""])
            site.cut_(coupling, keep, "shrink")
    assert before
    cut_everywhere_(once, "state", "shrink")
    ids = tokens(2, 9)
    torch.testing.assert_close(logits(once, ids), logits(twice, ids), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MAMBA)
def test_values_of_a_cut_are_laid_out_in_a_masked_model(name):
    model = language_model(name)
    for site in sites(model).values():
        have = [item for item in site.couplings if item.unit == "state"]
        for coupling in have:
            keep, before = some(coupling, 3), site.module.x_proj.weight.detach().clone()
            site.cut_(coupling, keep, "shrink")
            small = site.module.x_proj.weight.detach()
            full = spread(coupling, "x_proj.weight", small * 2, keep, before)
            rows = coupling.stays("x_proj.weight", 0, keep, before.shape[0])
            gone = torch.ones(before.shape[0], dtype=torch.bool).index_fill(0, rows, False)
            assert torch.equal(full[rows], small * 2)
            assert torch.equal(full[gone], before[gone])
            full = spread(
                coupling, "A_log", site.module.A_log, keep, torch.zeros(before.shape[1], 5)
            )
            assert torch.equal(full[:, keep], site.module.A_log.detach().float())


def test_what_a_site_has_not_is_refused_with_what_it_has():
    site = next(iter(sites(tiny("mamba")).values()))
    with pytest.raises(UnsupportedError, match=r"no head.*state, entry, weight"):
        site.coupling("head")
    with pytest.raises(UnsupportedError, match=r"no weight of y_proj.weight.*weight of in_proj"):
        site.coupling("weight", "y_proj.weight")
    with pytest.raises(UnsupportedError, match="mode='shrink'"):
        entry = site.coupling("entry")
        site.cut_(entry, torch.ones(entry.grid, dtype=torch.bool), "shrink")
