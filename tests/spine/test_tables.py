"""Baselines by a unit's table, on mixers that no method with data knows."""

import copy

import pytest
import torch

import ssmith as sm
from helpers.every_unit import build
from helpers.tiny_mamba import tokens
from ssmith.core.errors import InputError
from ssmith.families import sites


def test_the_smallest_heads_of_each_part_go():
    model = build("bamba")
    for site in sites(model).values():
        for table in site.couplings:
            if table.unit == "head":
                # Everything of the first head is made small.
                for item in table.slices:
                    path, _, last = item.parameter.rpartition(".")
                    value = getattr(site.module.get_submodule(path), last)
                    first = item.places(torch.arange(1)).flatten()
                    value.data.index_fill_(item.dim, first, 1e-6)
    plan = sm.plan(model, sm.Budget("head", 0.5))
    assert plan.findings[0].kind == "baseline"
    for name, keep in plan.cuts[0].keep.items():
        table = sites(model)[name].coupling("head")
        assert not keep[0]
        counts = keep.view(table.per_block, -1).sum(1)
        assert set(counts.tolist()) == {table.count // table.per_block // 2}


@pytest.mark.parametrize("unit", ["state", "head", "head_dim", "neuron", "kv_group"])
def test_any_unit_of_a_hybrid_is_cut_and_runs(unit):
    model = build("bamba")
    plan = sm.plan(model, sm.Budget(unit, 0.5, method="random", seed=3))
    again = sm.plan(model, sm.Budget(unit, 0.5, method="random", seed=3))
    assert plan.diff(again) == ()
    small = copy.deepcopy(model)
    removed = sm.prune_(small, plan).removed[unit]
    assert removed.after * 2 == removed.before
    with torch.no_grad():
        assert torch.isfinite(small(input_ids=tokens(2, 9)).logits).all()


def test_what_the_baselines_do_not_know_is_refused():
    model = build("bamba")
    with pytest.raises(InputError, match="no method 'last' for heads"):
        sm.plan(model, sm.Budget("head", 0.5, method="last"))
    with pytest.raises(InputError, match="scope is 'global'"):
        sm.plan(model, sm.Budget("head", 0.5, scope="global"))
    with pytest.raises(InputError, match="none"):
        sm.plan(model, sm.Budget("head", 0.01))
