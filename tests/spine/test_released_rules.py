"""Reproducing settings against rules written from papers and released codes, at sizes not round."""

import copy
import math
from fractions import Fraction

import pytest
import torch

import ssmith as sm
from helpers.plans import pruned
from helpers.selective import every_state, windows_of
from helpers.tiny_mamba import tiny
from helpers.toy import tiny_model
from ssmith.core.budget import Budget
from ssmith.core.pattern import Pattern
from ssmith.criteria.weights import OBS, Wanda, WeightMagnitude
from ssmith.families.registry import find_selective

pytest.importorskip("transformers")
LENGTH, COUNT = 13, 3


def half_to_even(exact):
    """Python's ``round``, which the released SparseSSM takes, of an exact number."""
    whole, rest = divmod(exact, 1)
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1)
    return int(whole) + up


def model(**settings):
    # 18 channels of 5 states: 90 entries, of which a quarter is 22.5.
    return tiny("mamba", hidden_size=9, **({"state_size": 5} | settings))


def first_scan(net, windows):
    """What the first mixer scans, each sequence alone in a batch of all."""
    (name, layer), *_ = find_selective(net).items()
    seen = []
    hook = layer.module.register_forward_pre_hook(
        lambda _, given, named: seen.append((*given, *named.values())[0]), with_kwargs=True
    )
    with torch.no_grad():
        net(input_ids=windows.ids)
    hook.remove()
    return name, layer.parts(seen[0]).scan


def released_q(scan, over_time):
    """Q of the release: Ψ_t sums over sequences, S_t is faded by n/(n + 1) before each is added."""
    A_bar, before, _ = every_state(scan)
    energy = torch.zeros_like(before[0])
    for number, states in enumerate(before):
        energy = energy * (number / (number + 1)) + states**2
    weights = torch.tensor(over_time, dtype=torch.float64)
    weights /= weights.sum()
    return torch.einsum("l,len->en", weights, A_bar.double().sum(0) ** 2 * energy.double())


def lowest(values, count):
    order = sorted(range(len(values)), key=lambda place: (values[place], -place))
    return set(order[:count])


@pytest.mark.parametrize("share", ["1/4", "1/3", "7/12"])
def test_sparsessm_removes_pn_d_rounded_half_to_even(share):
    exact = Fraction(share)
    net, windows = model(), windows_of(COUNT, LENGTH)
    name, scan = first_scan(net, windows)
    wanted = released_q(scan, [1 / (step + 1) for step in range(LENGTH)]).flatten().tolist()
    budget = sm.Budget("entry", float(exact), method="sparsessm")
    _, plan, _ = pruned(net, budget, windows)
    keep = plan.cut("entry").keep[name].flatten()
    assert set((~keep).nonzero().flatten().tolist()) == lowest(wanted, half_to_even(exact * 90))


def test_sparsessm_removes_n_of_m_by_the_first_quarter_rounded_up():
    # 13 steps: the window has ⌈13/4⌉ = 4, not 3.
    net, windows = model(state_size=6), windows_of(COUNT, LENGTH)
    name, scan = first_scan(net, windows)
    steps = math.ceil(Fraction(LENGTH, 4))
    wanted = released_q(scan, [1.0] * steps + [0.0] * (LENGTH - steps)).view(18, 2, 3)
    budget = sm.Budget("entry", "2:3", method="sparsessm", settings={"time_weights": "window"})
    _, plan, _ = pruned(net, budget, windows)
    keep = plan.cut("entry").keep[name].view(18, 2, 3)
    for group, kept in zip(wanted.flatten(0, 1).tolist(), keep.flatten(0, 1), strict=True):
        assert set((~kept).nonzero().flatten().tolist()) == lowest(group, 1)


@pytest.mark.parametrize(
    "budget",
    [
        sm.Budget("entry", 0.25, method="sparsessm"),
        sm.Budget("entry", 0.25),
        sm.Budget("state", 0.5, method="sparsessm-v1"),
        sm.Budget("weight", 0.37, method="sparsegpt"),
        sm.Budget("weight", 0.37, method="magnitude"),
    ],
    ids=str,
)
def test_a_plan_that_was_saved_makes_the_very_model(tmp_path, budget):
    net, windows = model(), windows_of(COUNT, LENGTH)
    made, plan, _ = pruned(net, budget, windows)
    plan.save(tmp_path / "plan")
    again = copy.deepcopy(net)
    sm.prune_(again, sm.Plan.load(tmp_path / "plan"))
    wanted, found = made.state_dict(), again.state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())


@pytest.mark.parametrize("states", [5, 7])
def test_the_structured_release_removes_pn_columns_rounded_half_to_even(states):
    net, windows = model(state_size=states), windows_of(COUNT, LENGTH)
    name, scan = first_scan(net, windows)
    _, before, _ = every_state(scan)
    energy = torch.zeros_like(before[0])
    for number, squares in enumerate(before):
        energy = energy * (number / (number + 1)) + squares**2
    layer = find_selective(net)[name]
    metric = (layer.mixer.A_log.detach() ** 2 * energy).sum(1).tolist()
    count = half_to_even(Fraction(states, 2))
    votes = [0] * states
    for step in metric[1:]:
        for place in lowest(step, count):
            votes[place] += 1
    _, plan, _ = pruned(net, sm.Budget("state", 0.5, method="sparsessm-v1"), windows)
    keep = plan.cut("state").keep[name].flatten()
    gone = set((~keep).nonzero().flatten().tolist())
    assert gone == lowest([-item for item in votes], count)


@pytest.mark.parametrize("percent", [1, 9, 33, 34, 55, 67, 91])
@pytest.mark.parametrize("method", ["last", "aire"])
def test_last_and_aire_keep_int_of_pl_times_what_stays(percent, method):
    cut = sm.plan(tiny_model(states=7), Budget("state", percent / 100, method=method)).cut("state")
    assert (cut.total, cut.kept) == (14, max(math.floor(Fraction(14 * (100 - percent), 100)), 1))


@pytest.mark.parametrize(("rows", "inputs"), [(5, 7), (3, 11)])
@pytest.mark.parametrize("share", ["1/2", "3/10", "7/9"])
def test_weights_that_go_are_half_rounded_up_and_the_release_takes_one_more(rows, inputs, share):
    draw = torch.Generator().manual_seed(rows)
    weight = torch.randn(rows, inputs, generator=draw)
    gram = torch.eye(inputs, dtype=torch.float64)
    size, exact = rows * inputs, Fraction(share)
    gone = math.floor(exact * size + Fraction(1, 2))
    order = weight.abs().flatten().argsort().tolist()
    keep = WeightMagnitude()(weight, gram, float(exact)).keep.flatten()
    assert set((~keep).nonzero().flatten().tolist()) == set(order[:gone])
    # SparseGPT's baseline: everything up to the value at place int(size·s), that one included.
    released = int((weight.abs() <= weight.abs().flatten().sort()[0][int(size * exact)]).sum())
    assert released == math.floor(size * exact) + 1
    assert released - gone in (0, 1)
    assert int((~Wanda()(weight, gram, float(exact)).keep).sum()) == gone
    assert int((~OBS(refit=0)(weight, gram, float(exact)).keep).sum()) == gone


@pytest.mark.parametrize(("inputs", "block"), [(20, 8), (12, 128)])
def test_sparsegpt_with_a_pattern_is_its_algorithm_column_by_column(inputs, block):
    draw = torch.Generator().manual_seed(inputs)
    weight = torch.randn(5, inputs, generator=draw, dtype=torch.float64)
    seen = torch.randn(37, inputs, generator=draw, dtype=torch.float64)
    gram = seen.T @ seen
    cut = OBS(refit=0, block=block)(weight, gram, Pattern(keep=2, of=4))
    damped = gram + 0.01 * gram.diagonal().mean() * torch.eye(inputs, dtype=torch.float64)
    factor = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    moved, keep = weight.clone(), torch.ones_like(weight, dtype=torch.bool)
    for column in range(inputs):
        if column % 4 == 0:
            group = slice(column, column + 4)
            score = moved[:, group] ** 2 / factor.diagonal()[group] ** 2
            keep[:, group].scatter_(1, score.argsort(1)[:, :2], value=False)
        error = moved[:, column] * ~keep[:, column] / factor[column, column]
        moved[:, column:] -= error[:, None] * factor[column, column:]
    torch.testing.assert_close(cut.weight, moved * keep, rtol=1e-9, atol=1e-9)
    assert torch.equal(cut.keep, keep)
