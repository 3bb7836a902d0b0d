"""A block that goes, made up for by the block before it, against least squares by hand."""

import copy
import math

import pytest
import torch

import ssmith as sm
from helpers.every_unit import build
from helpers.selective import windows_of
from ssmith.core.errors import PlanError
from ssmith.evaluation.perplexity import window_losses
from ssmith.families import chain_of, sync_depth_
from ssmith.spine.losses import held_out

pytest.importorskip("transformers")
MODELS = [
    ("mamba2", "mixer.out_proj", {"num_hidden_layers": 3}),
    ("bamba", "feed_forward.down_proj", {}),
    ("granitemoehybrid", "shared_mlp.output_linear", {"residual_multiplier": 0.7}),
    ("nemotron_h", "", {}),
]


def perplexity(model, rows):
    return math.exp(float(window_losses(model, rows).sum()) / rows.scored)


def streams(model, ids, wanted):
    """What modules are given and give, called by the stock code."""
    seen, hooks = {}, []
    for name in wanted:

        def note(_, given, out, name=name):
            seen[name] = (given[0], out[0] if isinstance(out, tuple) else out)

        hooks.append(model.get_submodule(name).register_forward_hook(note))
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return {name: tuple(item.flatten(0, 1) for item in pair) for name, pair in seen.items()}


def without(model, place):
    work = copy.deepcopy(model)
    site = chain_of(work)
    keep = torch.arange(len(site.module)) != place
    site.cut_(site.coupling("block"), keep)
    sync_depth_(work, keep)
    return work, site.name


def last_map(block):
    """The linear layer behind everything else in a block."""
    return [name for name, part in block.named_modules() if isinstance(part, torch.nn.Linear)][-1]


def by_hand(model, place, inner, multiplier, ids):
    """A model without a block, and the new weight of the last map of the block before it."""
    work, name = without(model, place)
    if not place:
        return work, None
    before = f"{name}.{place - 1}"
    path = f"{before}.{inner or last_map(work.get_submodule(before))}"
    target = streams(model, ids, [f"{name}.{place}"])[f"{name}.{place}"][1]
    found = streams(work, ids, [before, path])
    f, lacking = found[path][0], (target - found[before][1]) / multiplier
    # Half of the rows tells how much of a fit to the other half is more than chance.
    middle = len(ids) // 2 * ids.shape[1]
    halves = [(f[:middle], lacking[:middle]), (f[middle:], lacking[middle:])]
    given = done = 0.0
    for (mine, wanted), other in zip(halves, halves[::-1], strict=True):
        guess = mine @ best_map(*other).mT
        given, done = given + float((guess * wanted).sum()), done + float(guess.square().sum())
    share = max(0.0, min(1.0, given / (given + (done - given) / 2)))
    linear = work.get_submodule(path)
    linear.weight.data = linear.weight.data + share * best_map(f, lacking)
    return work, path


def best_map(f, lacking):
    """Ridge regression, as least squares with rows of the ridge below."""
    ridge = math.sqrt(1e-3 * float((f * f).sum(0).mean()))
    rows = torch.cat([f, ridge * torch.eye(f.shape[1], dtype=f.dtype)])
    wanted = torch.cat([lacking, torch.zeros(f.shape[1], lacking.shape[1], dtype=f.dtype)])
    return torch.linalg.lstsq(rows, wanted).solution.mT


@pytest.mark.parametrize(("name", "inner", "more"), MODELS)
def test_the_block_goes_that_is_missed_least_once_it_is_made_up_for(name, inner, more):
    rows, dense = windows_of(16, 20), build(name, **more)
    fitted, unseen = held_out(rows)
    ids = fitted.batch(range(len(fitted))).inputs.ids
    plan = sm.plan(dense, sm.Budget("block", 1, compensate=("O",)), rows)
    scale = more.get("residual_multiplier", 1.0)
    tried = [
        by_hand(dense, place, inner, scale, ids) for place in range(len(chain_of(dense).module))
    ]
    losses = [perplexity(model, unseen) for model, _ in tried]
    step = plan.facts["steps"][1]
    assert step["loss"] == pytest.approx(min(losses), rel=1e-6)
    assert step["removed"] == losses.index(min(losses))
    model, path = tried[step["removed"]]
    small = copy.deepcopy(dense)
    sm.prune_(small, plan)
    assert set(plan.values) == ({f"{path}.weight"} if path else set())
    for key, value in small.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[key], rtol=1e-4, atol=1e-5)


def test_what_was_made_up_for_can_be_cut_on(tmp_path):
    rows, dense = windows_of(48, 20), build("bamba")
    budgets = [
        sm.Budget("block", 1, compensate=("O",)), sm.Budget("neuron", 0.5, method="random"),
    ]  # fmt: skip
    plan = sm.plan(dense, budgets, rows)
    plan.save(tmp_path / "plan.json")
    small, again = copy.deepcopy(dense), copy.deepcopy(dense)
    sm.prune_(small, plan)
    sm.prune_(again, sm.Plan.load(tmp_path / "plan.json"))
    for key, value in small.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    (name,) = plan.values
    assert plan.values[name].shape == small.state_dict()[name].shape
    with pytest.raises(PlanError):
        sm.prune_(copy.deepcopy(small), plan)


def test_a_value_that_a_later_unit_cuts_goes_with_it():
    rows, dense = windows_of(4, 20), build("bamba")
    budgets = [sm.Budget("state", 0.5), sm.Budget("head", 0.5, method="random")]
    small = copy.deepcopy(dense)
    sm.prune_(small, sm.plan(dense, budgets, rows))
    after = copy.deepcopy(dense)
    for budget in budgets:
        sm.prune_(after, sm.plan(after, budget, rows))
    for key, value in small.state_dict().items():
        assert torch.equal(after.state_dict()[key], value), key
