"""Pruning of selective models in Python: what is chosen by itself, planned, spread and refused."""

import copy
import json

import pytest
import torch
from ssmith.calibrate.blockwise import WalkConfig
from ssmith.jobs.selective import SelectiveConfig, plan_selective, prune_selective_
from ssmith.jobs.selective.projection_config import ProjectionConfig

import ssmith as sm
from helpers.selective import windows_of
from helpers.tiny_mamba import tiny
from helpers.unchecked import build
from ssmith.calibrate.preflight import BlockSizes, preflight
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.core.pattern import Pattern
from ssmith.families import model_digest
from ssmith.families.registry import find_selective
from ssmith.tune.adapters import StateOffset

# transformers rounds norms of a float64 model to float32: one such rounding may flip.
FLOAT64 = 2e-6

pytest.importorskip("transformers")


def counts(model):
    return [int(layer.present.sum()) for layer in find_selective(model).values()]


@pytest.mark.parametrize(
    ("name", "settings", "chosen"),
    [
        ("mamba", {"a_log": 0.5}, ("gram-greedy", "none", "model")),
        ("mamba", {"columns": 0.4}, ("refit-greedy", "C", "layer")),
        ("falcon_mamba", {"columns": 0.4}, ("gram-greedy", "none", "layer")),
        ("mamba", {"a_log": 0.5, "method": "sparsessm"}, ("sparsessm", "none", "layer")),
        ("mamba", {"a_log": Pattern(keep=2, of=5)}, ("gram-greedy", "none", "layer")),
    ],
)
def test_what_is_left_to_choose_is_chosen_and_named(name, settings, chosen):
    receipt = prune_selective_(tiny(name), windows_of(4, 12), SelectiveConfig(**settings)).receipt
    method = receipt.method
    assert (method["method"], method["compensate"], method["spread"]) == chosen


def test_plans_leave_the_model_alone_and_make_the_same_cut():
    model, windows = tiny("mamba"), windows_of(4, 12)
    before, config = model_digest(model), SelectiveConfig(a_log=0.5, method="state-energy")
    plans = plan_selective(model, windows, config)
    assert model_digest(model) == before
    twin = copy.deepcopy(model)
    receipt = sm.prune_(model, sm.Plan.from_json(_json(plans["entries"])))
    prune_selective_(twin, windows, config)
    assert model_digest(model) == model_digest(twin)
    assert receipt.removed["entries"]["fraction"] == 0.5


def _json(plan):
    return json.loads(plan.to_json())


def test_a_cut_spread_over_the_model_takes_as_many_entries_where_they_cost_least():
    model = tiny("mamba", num_hidden_layers=3)
    # The last layer hardly moves the stream: its entries are cheap.
    model.backbone.layers[2].mixer.out_proj.weight.data *= 1e-3
    by_layer = copy.deepcopy(model)
    windows = windows_of(4, 12)
    prune_selective_(model, windows, SelectiveConfig(a_log=0.5))
    prune_selective_(by_layer, windows, SelectiveConfig(a_log=0.5, spread="layer"))
    assert counts(by_layer) == [100, 100, 100]
    assert sum(counts(model)) == 300
    assert counts(model)[2] < 20


def test_a_pattern_holds_in_every_channel():
    model = tiny("mamba", state_size=8)
    prune_selective_(model, windows_of(4, 12), SelectiveConfig(a_log=Pattern(keep=2, of=4)))
    for layer in find_selective(model).values():
        assert (layer.present.view(layer.e, 2, 4).sum(-1) == 2).all()


def test_further_cuts_count_what_is_gone():
    model, windows = tiny("mamba"), windows_of(4, 12)
    prune_selective_(model, windows, SelectiveConfig(a_log=0.25))
    first = [layer.present.clone() for layer in find_selective(model).values()]
    prune_selective_(model, windows, SelectiveConfig(a_log=0.5))
    assert sum(counts(model)) == 200
    for before, layer in zip(first, find_selective(model).values(), strict=True):
        assert not (layer.present & ~before).any()


def test_columns_by_cost_make_unequal_layers():
    model = tiny("mamba", num_hidden_layers=3)
    model.backbone.layers[2].mixer.out_proj.weight.data *= 1e-3
    config = SelectiveConfig(columns=0.4, split="marginal", method="output-energy")
    prune_selective_(model, windows_of(4, 12), config)
    sizes = [layer.n for layer in find_selective(model).values()]
    assert sum(sizes) == 9
    assert sizes[2] == 1


def test_a_working_directory_changes_nothing_and_ends_with_the_survey_kept(tmp_path):
    config = SelectiveConfig(
        a_log=0.5, columns=0.4, recover="Dhy", projections=ProjectionConfig(amount=0.3)
    )
    model, twin, again = (tiny("mamba") for _ in range(3))
    prune_selective_(model, windows_of(4, 12), config)
    for other in (twin, again):
        walking = WalkConfig(work_dir=tmp_path / "work")
        prune_selective_(other, windows_of(4, 12), config, walk_config=walking)
        assert model_digest(other) == model_digest(model)
    assert sorted(item.name for item in (tmp_path / "work").iterdir()) == [
        "block-0000.safetensors", "block-0001.safetensors", "budgets.json", "walk.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "nothing is to be removed"),
        ({"a_log": 1.0}, "a_log is 1.0"),
        ({"columns": Pattern(keep=2, of=4)}, "a fraction"),
        ({"a_log": 0.5, "semantics": "remove"}, "semantics is 'remove'"),
        ({"a_log": 0.5, "settings": {"colour": "red"}}, "no setting colour"),
        ({"a_log": 0.5, "spread": "model", "method": "random"}, "does not score"),
        ({"a_log": 0.5, "seed": -1}, "seed is -1"),
    ],
)
def test_settings_outside_their_domain_are_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        build(SelectiveConfig, **wrong)


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="token id 60, the model knows 50"):
        prune_selective_(
            tiny("mamba", vocab_size=50), windows_of(4, 40), SelectiveConfig(a_log=0.5)
        )
    padded = windows_of(2, 12, lengths=torch.tensor([12, 5]))
    with pytest.raises(InputError, match=r"29\.2% of the calibration windows is padding"):
        prune_selective_(tiny("mamba"), padded, SelectiveConfig(a_log=0.5, method="sparsessm"))


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({"a_log": 0.5}, "D"),
        ({"columns": 0.5}, "D"),
        ({"a_log": 0.5, "method": "output-energy"}, "none"),
        ({"a_log": 0.5, "recover": "none"}, "none"),
        ({"a_log": 0.5, "method": "sparsessm", "recover": "hy"}, "hy"),
        ({"projections": ProjectionConfig(amount=0.3)}, "none"),
    ],
)
def test_what_is_left_to_choose_recovers_and_what_is_named_is_that_alone(settings, terms):
    config = SelectiveConfig(**settings).resolved(refits=True)
    assert config.recover == terms
    assert config.resolved(refits=True) == config


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_a_norm_over_states_is_told_of_before_columns_go(name):
    model = tiny(name)
    done = prune_selective_(model, windows_of(2, 12), SelectiveConfig(columns=0.4))
    told = [item for item in done.receipt.findings if item["kind"] == "normalised"]
    noted = [layer for layer in sm.inspect(model).layers if "root mean square" in layer.notes[-1]]
    assert len(told) == (name == "falcon_mamba")
    assert len(noted) == 2 * (name == "falcon_mamba")
    entries = prune_selective_(tiny(name), windows_of(2, 12), SelectiveConfig(a_log=0.4))
    assert not [item for item in entries.receipt.findings if item["kind"] == "normalised"]


def test_a_model_with_adapters_is_refused():
    model = tiny("mamba")
    sm.adapt_(model, StateOffset())
    with pytest.raises(UnsupportedError, match="carries adapters"):
        prune_selective_(model, windows_of(2, 12), SelectiveConfig(a_log=0.5))


def test_a_preflight_counts_what_is_held():
    sizes = BlockSizes(m=8, e=16, n=4, model_bytes=1000, block_bytes=100)
    settings = {"batch_size": 2, "statistics": 64, "kept_bytes": 10**6}
    whole = preflight(sizes, windows_of(4, 12), on_disk=False, blocks_from_disk=False, **settings)
    lean = preflight(sizes, windows_of(4, 12), on_disk=True, blocks_from_disk=True, **settings)
    assert (whole.weights, lean.weights) == (1000, 200)
    assert (whole.activations, lean.activations) == (4 * 12 * 8 * 4, 0)
    assert lean.disk > 1000
    assert lean.memory < whole.memory
    assert whole.kept == 2 * 4 * 12 * 16 * 4
    settings["kept_bytes"] = 10
    less = preflight(sizes, windows_of(4, 12), on_disk=False, blocks_from_disk=False, **settings)
    assert whole.memory - less.memory == whole.kept - 10


CUTS = (
    {"columns": 0.4, "compensate": "CB", "a_log": 0.3, "recover": "Dhy"},
    {"a_log": 0.5, "method": "sparsessm", "semantics": "unit-decay"},
    {"a_log": 0.4, "projections": ProjectionConfig(amount=0.3)},
)


@pytest.mark.parametrize("settings", CUTS)
def test_what_is_kept_of_a_block_changes_nothing_that_is_decided(settings):
    models = []
    for kept_gb in (0.0, 2e-5, 1.0):
        model = tiny("mamba", dtype=torch.float64)
        walking = WalkConfig(batch_size=2, kept_gb=kept_gb)
        config = SelectiveConfig(**settings)
        prune_selective_(model, windows_of(5, 12), config, walk_config=walking)
        models.append(model)
    for other in models[1:]:
        layers = zip(
            find_selective(models[0]).values(), find_selective(other).values(), strict=True
        )
        assert all(torch.equal(one.present, two.present) for one, two in layers)
        for name, value in models[0].state_dict().items():
            torch.testing.assert_close(
                other.state_dict()[name], value, atol=FLOAT64, rtol=FLOAT64, msg=name
            )
