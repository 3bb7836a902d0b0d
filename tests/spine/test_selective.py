"""Plans for selective models: what is chosen by itself, spread over layers, and refused."""

import pytest
import torch

import ssmith as sm
from helpers.plans import pruned
from helpers.selective import windows_of
from helpers.tiny_mamba import tiny
from ssmith.calibrate import PassConfig
from ssmith.calibrate.preflight import BlockSizes, preflight
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families import model_digest
from ssmith.families.registry import find_selective
from ssmith.spine.choice import choose
from ssmith.tune.adapters import StateOffset

# transformers rounds norms of a float64 model to float32: one such rounding may flip.
FLOAT64 = 2e-6

pytest.importorskip("transformers")


def counts(model):
    return [int(layer.present.sum()) for layer in find_selective(model).values()]


def cheap_last(**settings):
    """A model of three layers whose last one hardly moves the stream: its units are cheap."""
    model = tiny("mamba", num_hidden_layers=3, **settings)
    model.backbone.layers[2].mixer.out_proj.weight.data *= 1e-3
    return model


@pytest.mark.parametrize(
    ("name", "budget", "chosen"),
    [
        ("mamba", sm.Budget("entry", 0.5), ("gram-greedy", "none", "D", "cost")),
        ("mamba", sm.Budget("state", 0.4), ("refit-greedy", "C", "D", "uniform")),
        ("falcon_mamba", sm.Budget("state", 0.4), ("gram-greedy", "none", "D", "uniform")),
        (
            "mamba", sm.Budget("entry", 0.5, method="sparsessm"),
            ("sparsessm", "none", "", "uniform"),
        ),
        ("mamba", sm.Budget("entry", "2:5"), ("gram-greedy", "none", "D", "uniform")),
        (
            "mamba", sm.Budget("entry", 0.5, method="sparsessm", compensate="hy"),
            ("sparsessm", "none", "hy", "uniform"),
        ),
        (
            "mamba", sm.Budget("entry", 0.5, compensate="none"),
            ("gram-greedy", "none", "", "cost"),
        ),
        (
            "mamba", sm.Budget("state", 0.4, compensate="full"),
            ("refit-greedy", "CB", "D", "uniform"),
        ),
    ],
)  # fmt: skip
def test_what_is_left_to_choose_is_chosen_and_named(name, budget, chosen):
    _, plan, _ = pruned(tiny(name), budget, windows_of(2, 12))
    method = plan.cut(budget.unit).method
    assert (method["name"], method["rows"], method["terms"], method["scope"]) == chosen


def test_a_cut_by_cost_takes_as_many_entries_where_they_cost_least():
    model, windows = cheap_last(), windows_of(2, 12)
    by_cost, _, _ = pruned(model, sm.Budget("entry", 0.5), windows)
    by_layer, _, _ = pruned(model, sm.Budget("entry", 0.5, scope="uniform"), windows)
    assert counts(by_layer) == [100, 100, 100]
    assert sum(counts(by_cost)) == 300
    assert counts(by_cost)[2] < 20


@pytest.mark.parametrize("share", [0.21, 0.4, 0.5, 0.77])
@pytest.mark.parametrize("scope", ["uniform", "cost"])
def test_entries_by_cost_meet_their_budget_on_what_states_leave(share, scope):
    budgets = [
        sm.Budget("state", 0.4, scope=scope, method="output-energy"),
        sm.Budget("entry", share, scope="cost"),
    ]
    cut, plan, receipt = pruned(cheap_last(), budgets, windows_of(2, 12))
    left = [40 * layer.n for layer in find_selective(cut).values()]
    assert sum(left) == 40 * 9
    gone = round(share * sum(left))
    assert sum(counts(cut)) == sum(left) - gone
    assert plan.cut("entry").total == sum(left)
    removed = receipt.removed["entry"]
    assert (removed.before, removed.after) == (sum(left), sum(left) - gone)
    assert removed.fraction == pytest.approx(gone / sum(left))


def test_a_count_is_what_goes_from_all_layers_together():
    model, windows = tiny("mamba", num_hidden_layers=3), windows_of(2, 12)
    cut, _, _ = pruned(model, sm.Budget("state", 7), windows)
    assert sorted(layer.n for layer in find_selective(cut).values()) == [2, 3, 3]
    cut, _, _ = pruned(model, sm.Budget("entry", 100, scope="uniform"), windows)
    assert sorted(counts(cut)) == [166, 167, 167]
    cut, _, _ = pruned(model, sm.Budget("entry", 101), windows)
    assert sum(counts(cut)) == 3 * 200 - 101
    with pytest.raises(InputError, match="16 of 15 state are to go"):
        pruned(model, sm.Budget("state", 16), windows)


def test_a_pattern_holds_in_every_channel():
    model = tiny("mamba", state_size=8)
    cut, _, _ = pruned(model, sm.Budget("entry", "2:4"), windows_of(2, 12))
    for layer in find_selective(cut).values():
        assert (layer.present.view(layer.e, 2, 4).sum(-1) == 2).all()


def test_further_cuts_count_what_is_gone():
    windows = windows_of(2, 12)
    first, _, _ = pruned(tiny("mamba"), sm.Budget("entry", 0.25), windows)
    second, _, _ = pruned(first, sm.Budget("entry", 0.5), windows)
    assert sum(counts(second)) == 200
    for before, after in zip(
        find_selective(first).values(), find_selective(second).values(), strict=True
    ):
        assert not (after.present & ~before.present).any()


def test_states_by_cost_make_unequal_layers():
    budget = sm.Budget("state", 0.4, scope="cost", method="output-energy")
    cut, _, _ = pruned(cheap_last(), budget, windows_of(2, 12))
    sizes = [layer.n for layer in find_selective(cut).values()]
    assert sum(sizes) == 9
    assert sizes[2] == 1


def test_only_targets_are_cut():
    budget = sm.Budget("state", 0.4, targets=("*.1.mixer",))
    cut, plan, _ = pruned(tiny("mamba", num_hidden_layers=3), budget, windows_of(2, 12))
    assert [layer.n for layer in find_selective(cut).values()] == [5, 3, 5]
    assert list(plan.cut("state").keep) == ["backbone.layers.1.mixer"]
    with pytest.raises(UnsupportedError, match="no state that can be cut in head"):
        pruned(tiny("mamba"), sm.Budget("state", 0.4, targets=("head",)), windows_of(2, 12))


def test_a_working_directory_changes_nothing_and_ends_with_the_survey_kept(tmp_path):
    budgets = [
        sm.Budget("state", 0.4, compensate="CDhy"), sm.Budget("entry", 0.5),
        sm.Budget("weight", 0.3),
    ]  # fmt: skip
    model, windows = tiny("mamba"), windows_of(2, 12)
    cut, _, _ = pruned(model, budgets, windows)
    for _ in range(2):
        other, _, _ = pruned(model, budgets, windows, run=PassConfig(work_dir=tmp_path / "work"))
        assert model_digest(other) == model_digest(cut)
    kept = {item.name for item in (tmp_path / "work").iterdir()}
    assert "counts.json" in kept
    assert not [name for name in kept if name.startswith("hidden-")]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sparsity": "2:4", "unit": "state"}, "patterns are for entry and weight"),
        ({"semantics": "remove"}, "semantics is 'remove'"),
        ({"settings": {"colour": "red"}}, "no setting colour"),
        ({"scope": "cost", "method": "random"}, "does not score"),
        ({"scope": "global"}, "scope is 'global'"),
        ({"unit": "state", "method": "sparsessm"}, "not defined for whole states"),
        ({"unit": "state", "compensate": "B"}, "B together with C"),
        ({"compensate": "C"}, "entries share B and C"),
        ({"compensate": "once"}, "compensate is 'once'"),
        ({"compensate": "white"}, "compensate is 'white'"),
        ({"min_per_layer": 1}, "min_per_layer is 1"),
        ({"method": "gram-greed"}, "did you mean 'gram-greedy'"),
    ],
    ids=str,
)
def test_settings_outside_their_domain_are_refused(wrong, said):
    budget = sm.Budget(**{"unit": "entry", "sparsity": 0.5, **wrong})
    with pytest.raises(InputError, match=said):
        choose([budget], refits=True)


def test_units_come_in_one_order():
    with pytest.raises(UnsupportedError, match="state, entry and weight, each once"):
        choose([sm.Budget("entry", 0.5), sm.Budget("state", 0.5)], refits=True)
    with pytest.raises(InputError, match="there is no budget"):
        sm.plan(tiny("mamba"), [], windows_of(2, 12))


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="token id 60, the model knows 50"):
        sm.plan(tiny("mamba", vocab_size=50), sm.Budget("entry", 0.5), windows_of(4, 40))
    padded = windows_of(2, 12, lengths=torch.tensor([12, 5]))
    with pytest.raises(InputError, match=r"29\.2% of the calibration windows is padding"):
        sm.plan(tiny("mamba"), sm.Budget("entry", 0.5, method="sparsessm"), padded)


@pytest.mark.parametrize("name", ["mamba", "falcon_mamba"])
def test_a_norm_over_states_is_told_of_before_states_go(name):
    model = tiny(name)
    _, plan, _ = pruned(model, sm.Budget("state", 0.4), windows_of(2, 12))
    told = [item for item in plan.findings if item.kind == "normalised"]
    noted = [layer for layer in sm.inspect(model).layers if "root mean square" in layer.notes[-1]]
    assert len(told) == (name == "falcon_mamba")
    assert len(noted) == 2 * (name == "falcon_mamba")
    _, plan, _ = pruned(model, sm.Budget("entry", 0.4), windows_of(2, 12))
    assert not [item for item in plan.findings if item.kind == "normalised"]


def test_a_model_with_adapters_is_refused():
    model = tiny("mamba")
    sm.adapt_(model, StateOffset())
    with pytest.raises(UnsupportedError, match="carries adapters"):
        sm.plan(model, sm.Budget("entry", 0.5), windows_of(2, 12))


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
    [sm.Budget("state", 0.4, compensate="BCDhy"), sm.Budget("entry", 0.3)],
    [sm.Budget("entry", 0.5, method="sparsessm", semantics="unit-decay")],
    [sm.Budget("entry", 0.4), sm.Budget("weight", 0.3)],
)


@pytest.mark.parametrize("budgets", CUTS)
def test_what_is_kept_of_a_block_changes_nothing_that_is_decided(budgets):
    model, models = tiny("mamba", dtype=torch.float64), []
    for kept_gb in (0.0, 2e-5, 1.0):
        config = PassConfig(batch_size=2, kept_gb=kept_gb)
        models.append(pruned(model, budgets, windows_of(5, 12), run=config)[0])
    for other in models[1:]:
        layers = zip(
            find_selective(models[0]).values(), find_selective(other).values(), strict=True
        )
        assert all(torch.equal(one.present, two.present) for one, two in layers)
        for name, value in models[0].state_dict().items():
            torch.testing.assert_close(
                other.state_dict()[name], value, atol=FLOAT64, rtol=FLOAT64, msg=name
            )
