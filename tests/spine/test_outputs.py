"""Heads, their channels, neurons and attention groups by data, in every family that has them."""

import copy

import pytest
import torch

import ssmith as sm
from helpers.every_unit import CASES, MODELS, build
from helpers.selective import windows_of
from ssmith.calibrate import PassConfig
from ssmith.core.errors import ArtefactError, InputError
from ssmith.families import sites
from ssmith.families.hf.double import in_double
from ssmith.families.hf.engine import engine

pytest.importorskip("transformers")
OUTPUT_UNITS = ("head", "head_dim", "neuron", "kv_group")
LAYERS = {name: [*sites(build(name)).values()] for name in MODELS}
FORMS = [
    (name, unit)
    for name, unit in CASES
    if any(item.output for site in LAYERS[name] for item in site.couplings
           if item.unit == unit)
]  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return windows_of(2, 20)


@torch.no_grad()
def logits(model, rows):
    with in_double(model) as wide, engine(wide):
        return wide(input_ids=rows.batch(range(2)).inputs.ids).logits


def cut_by(model, plan, mode="shrink"):
    cut = copy.deepcopy(model)
    sm.prune_(cut, plan, mode)
    return cut


def test_the_units_that_are_known_are_those_of_the_tables():
    assert {unit for _, unit in FORMS} == set(OUTPUT_UNITS)


@pytest.mark.usefixtures("all_of_a_fit")
@pytest.mark.parametrize(("name", "unit"), FORMS)
def test_a_plan_is_complete_and_better_than_by_energy_alone(name, unit, rows):
    dense, error = build(name), {}
    for method in ("obs", "output-energy"):
        plan = sm.plan(dense, sm.Budget(unit, 0.5, method=method), rows)
        small = logits(cut_by(dense, plan), rows)
        torch.testing.assert_close(
            logits(cut_by(dense, plan, "mask"), rows), small, rtol=0, atol=1e-9
        )
        # The first layer that is cut is given the same by both.
        error[method] = plan.facts["stages"][0]["error"]["after"]
        assert bool(plan.values) == (method == "obs")
    assert error["obs"] < error["output-energy"]


@pytest.mark.usefixtures("all_of_a_fit")
@pytest.mark.parametrize("unit", OUTPUT_UNITS)
def test_a_refit_lowers_the_error_of_any_choice(unit, rows):
    dense = build("bamba")
    for method in ("obs", "output-energy"):
        errors = []
        for compensate in ("none", ("O",)):
            plan = sm.plan(dense, sm.Budget(unit, 0.5, method=method, compensate=compensate), rows)
            change = logits(cut_by(dense, plan), rows) - logits(dense, rows)
            errors.append(float(change.square().mean()))
        assert errors[1] < errors[0], method


@pytest.mark.usefixtures("all_of_a_fit")
@pytest.mark.parametrize("name", ["bamba", "nemotron_h"])
def test_values_are_the_output_map_on_what_the_pass_saw(name, rows):
    """The first layer that is cut sees dense inputs: its new columns are least squares there."""
    dense = build(name)
    plan = sm.plan(dense, sm.Budget("neuron", 0.5), rows)
    layer, keep = next(iter(plan.cuts[0].keep.items()))
    path = next(key for key in plan.values if key.startswith(f"{layer}."))
    linear, seen = dense.get_submodule(path.removesuffix(".weight")), []
    hook = linear.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad(), engine(dense):
        dense(input_ids=rows.batch(range(2)).inputs.ids)
    hook.remove()
    f = seen[0].flatten(0, 1)
    ridge = 1e-3 * float((f * f).sum(0).mean())
    S = f.mT @ f + ridge * torch.eye(f.shape[1], dtype=f.dtype)
    wanted = (linear.weight.detach() @ S)[:, keep] @ torch.linalg.inv(S[keep][:, keep])
    torch.testing.assert_close(plan.values[path], wanted, rtol=1e-5, atol=1e-7)


def test_minitron_is_the_size_of_activations_row_by_row(rows):
    """Of the first layer that is cut, which is given what it is given in the dense model."""
    dense, seen = build("bamba"), {}
    ids = rows.batch(range(2)).inputs.ids
    mixer, mlp = dense.model.layers[0].mamba, dense.model.layers[0].feed_forward

    def note(name):
        return lambda _, given, out: seen.__setitem__(name, (given[0], out))

    hooks = [mixer.in_proj.register_forward_hook(note("mixer")),
             mlp.down_proj.register_forward_hook(note("mlp"))]  # fmt: skip
    with torch.no_grad():
        dense(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    heads, width = mixer.num_heads, mixer.head_dim
    x = seen["mixer"][1][..., heads * width : 2 * heads * width]
    sizes = [sum(row.abs().mean(0) ** 2 for row in given) ** 0.5 for given in (x, seen["mlp"][0])]
    by_head = sizes[0].view(heads, width)
    wanted = {
        "head_dim": by_head.square().sum(0).sqrt().repeat(heads, 1),
        "head": by_head.square().sum(1).sqrt().view(mixer.n_groups, -1),
        "neuron": sizes[1].view(1, -1),
    }
    for unit, scores in wanted.items():
        plan = sm.plan(dense, sm.Budget(unit, 0.5, method="minitron"), rows)
        keep = next(iter(plan.cuts[0].keep.values())).view(scores.shape)
        least = scores.masked_fill(~keep, torch.inf).amin(1)
        assert bool((least > scores.masked_fill(keep, -torch.inf).amax(1)).all()), unit
        assert not plan.values


def test_padding_counts_for_nothing():
    model = build("nemotron_h")
    loader = [{"input_ids": torch.randint(1, 60, (2, 12), generator=torch.manual_seed(s))}
              for s in range(2)]  # fmt: skip
    padded = []
    for batch in loader:
        ids = torch.cat([batch["input_ids"], torch.full((2, 5), 7)], dim=1)
        padded.append({"input_ids": ids, "valid": torch.arange(17).expand(2, -1) < 12})

    def forward(net, batch):
        return net(input_ids=batch["input_ids"])

    budget = sm.Budget("neuron", 0.5)
    plain = sm.plan(model, budget, sm.rows(loader, forward=forward))
    same = sm.plan(
        model, budget, sm.rows(padded, forward=forward, valid=lambda batch: batch["valid"])
    )
    for name, value in plain.values.items():
        torch.testing.assert_close(same.values[name], value, rtol=1e-9, atol=1e-11)


def test_a_kept_pass_goes_on_to_the_same_plan(tmp_path, rows):
    model, budget = build("bamba"), sm.Budget("head_dim", 0.5)
    whole = sm.plan(model, budget, rows)
    config = PassConfig(work_dir=tmp_path / "work")
    first = sm.plan(model, budget, rows, run=config)
    again = sm.plan(model, budget, rows, run=config)
    assert first.diff(whole) == again.diff(whole) == ()
    with pytest.raises(ArtefactError, match=r"sparsity was 0.5 and is 0.25"):
        sm.plan(model, sm.Budget("head_dim", 0.25), rows, run=config)


def test_several_cuts_go_on_in_one_place(tmp_path, rows):
    model, config = build("bamba"), PassConfig(work_dir=tmp_path / "work")
    budgets = [sm.Budget("state", 0.5), sm.Budget("neuron", 0.5), sm.Budget("head", 0.5)]
    whole = sm.plan(model, budgets, rows)
    assert sm.plan(model, budgets, rows, run=config).diff(whole) == ()
    assert sm.plan(model, budgets, rows, run=config).diff(whole) == ()
    assert {item.name for item in (tmp_path / "work").iterdir()} == {"cut-1", "cut-2", "cut-3"}
    with pytest.raises(InputError, match="nothing is measured layer by layer"):
        sm.plan(model, sm.Budget("neuron", 0.5, method="random"), rows, run=config)


def test_what_has_no_meaning_is_refused(rows):
    model = build("bamba")
    for budget, said in [
        (sm.Budget("neuron", 0.5, method="ghost"), "no method 'ghost'"),
        (sm.Budget("neuron", 0.5, compensate=("C",)), "compensate"),
        (sm.Budget("neuron", 0.001), "none"),
        (sm.Budget("head", 1), "multiples of 2"),
    ]:
        with pytest.raises(InputError, match=said):
            sm.plan(model, budget, rows)
    with pytest.raises(InputError, match="there is none"):
        sm.plan(model, sm.Budget("neuron", 0.5, method="obs"))
    assert sm.plan(model, sm.Budget("neuron", 0.5)).findings[0].kind == "baseline"
