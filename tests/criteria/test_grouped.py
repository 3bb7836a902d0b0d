"""Criteria for the states of Mamba-2's groups, against sums over steps and channels."""

import itertools
from dataclasses import replace

import pytest
import torch

from helpers.every_unit import build
from helpers.grouped import FAMILIES, by_steps, gain_of
from ssmith.calibrate.grouped import FIRST, sample_reads, sample_states, sampled
from ssmith.calibrate.shards import added
from ssmith.criteria import by_name
from ssmith.criteria.grouped import GHOST, BalancedGroups, GroupEnergy, GroupGreedy, UniQL
from ssmith.families.mamba2.family import MAMBA2
from ssmith.families.mamba2.grouped import GroupedLayer

LENGTH = 21


def layer_of(name):
    model = build(name)
    found = next((n, m) for n, m in model.named_modules() if MAMBA2.owns(m))
    return GroupedLayer(*found)


def inputs(layer, rows=3):
    draw = torch.Generator().manual_seed(3)
    width = layer.mixer.in_proj.weight.shape[1]
    return torch.randn(rows, LENGTH, width, generator=draw, dtype=torch.float64)


@torch.no_grad()
def gathered(criterion, layer, hidden, valid=None):
    sums = None
    for sample in sample_states(layer, layer.parts(hidden, valid), criterion.stride):
        sums = added(sums, criterion.gather(sample))
    return sums


@torch.no_grad()
def metrics(layer, hidden, stride):
    """Yield K (g, n, n) and C (g, n) of each row and step that is looked at."""
    g = layer.g
    for row in hidden:
        steps = by_steps(layer.mixer, row)
        for end in sampled(LENGTH, stride):
            gain = gain_of(layer.mixer, steps.y[end - 1], steps.gate[end - 1]).view(g, -1)
            H = steps.H[end - 1].reshape(g, -1, layer.n)
            K = torch.einsum("gcn,gc,gcm->gnm", H, gain, H)
            yield K, steps.C[end - 1]


@pytest.mark.parametrize("stride", [2, 5, 8, 32])
@pytest.mark.parametrize("period", [2, 3, 4, 8, 16])
def test_steps_that_are_looked_at_meet_no_period_of_the_data(stride, period):
    """At equal distances a stride of 8 saw every second step of a pair, and the other one never."""
    ends = torch.tensor(sampled(200 * stride, stride))
    assert ends[0] == FIRST
    assert ((ends - FIRST) // stride).tolist() == list(range(len(ends)))
    met = (ends % period).bincount(minlength=period) / len(ends)
    assert met.min() > 0.7 / period
    assert met.max() < 1.3 / period


def test_steps_that_are_looked_at_are_there():
    assert sampled(5, 1) == [1, 2, 3, 4, 5]
    for length in range(1, 60):
        ends = sampled(length, 8)
        assert 1 <= ends[0] <= FIRST
        assert ends == sorted(set(ends))
        assert ends[-1] <= length


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("stride", [1, 5])
@torch.no_grad()
def test_some_states_and_what_is_read_of_all_are_those_of_whole_samples(name, stride):
    layer = layer_of(name)
    hidden, draw = inputs(layer), torch.Generator().manual_seed(5)
    valid = torch.arange(LENGTH) < torch.tensor([[LENGTH], [14], [9]])
    parts = layer.parts(hidden, valid)
    h = torch.randn(parts.scan.start().shape, generator=draw, dtype=torch.float64)
    # Where a scan begins, and what is added to what is read, come from adapters.
    vars(parts)["scan"] = replace(parts.scan, h0=h, h_offset=h[0] / 3)
    places = torch.stack([torch.randperm(layer.n, generator=draw)[:3] for _ in range(layer.g)])
    found = list(sample_reads(layer, parts, stride, places))
    samples = list(sample_states(layer, parts, stride))
    for few, whole in zip(found, samples, strict=True):
        for group, own in enumerate(places):
            torch.testing.assert_close(few.states[:, group], whole.states[:, group, :, own])
        read = torch.einsum("bgcn,bgn->bgc", whole.states, whole.C)
        torch.testing.assert_close(few.read, read)
        torch.testing.assert_close(few.gain, whole.gain)
        assert torch.equal(few.valid, whole.valid)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("stride", [1, 5])
def test_the_energy_of_whatever_goes_is_that_of_its_output(name, stride):
    layer = layer_of(name)
    hidden = inputs(layer)
    gram = gathered(GroupEnergy(stride=stride), layer, hidden)["gram"]
    found = list(metrics(layer, hidden, stride))
    whole = sum(torch.einsum("gn,gnm,gm->g", C, K, C) for K, C in found)
    assert torch.allclose(gram.sum((1, 2)), whole, rtol=1e-9)
    gone = torch.tensor([True, False, True, True, False, False])
    part = sum(torch.einsum("gn,gnm,gm->g", C * gone, K, C * gone) for K, C in found)
    assert torch.allclose(gram[:, gone][:, :, gone].sum((1, 2)), part, rtol=1e-9)


@pytest.mark.parametrize("name", ["mamba2", "falcon_h1 normed first"])
def test_published_scores_are_their_formulas(name):
    layer = layer_of(name)
    hidden = inputs(layer)
    ghost, into, out = 0.0, 0.0, 0.0
    with torch.no_grad():
        for row in hidden:
            steps = by_steps(layer.mixer, row)
            heads = steps.H.view(LENGTH, layer.g, -1, layer.n)
            ghost = ghost + (heads.pow(2).sum(2) * steps.C.pow(2)).sum(0)
            delta = steps.delta.view(LENGTH, layer.g, -1, 1)
            into = into + (delta * steps.B.unsqueeze(2)).pow(2).sum(0)
            out = out + steps.C.pow(2).sum(0)
    uniql = into.sqrt().sum(1) * out.sqrt()
    for criterion, wanted in ((GHOST(), ghost), (UniQL(), uniql)):
        assert torch.allclose(
            criterion.scores(gathered(criterion, layer, hidden)), wanted, rtol=1e-9
        )


def test_steps_that_are_padding_say_nothing():
    layer = layer_of("mamba2")
    hidden = inputs(layer, rows=2)
    valid = torch.ones(2, LENGTH, dtype=torch.bool)
    valid[1, 9:] = False
    other = hidden.clone()
    other[1, 9:] = 7.0
    for name in ("balanced", "gram-greedy", "ghost", "uniql", "state-energy"):
        criterion = by_name(name, "grouped")
        one, two = (gathered(criterion, layer, given, valid) for given in (hidden, other))
        whole = gathered(criterion, layer, hidden)
        for key, value in one.items():
            assert torch.allclose(value, two[key], rtol=1e-12), (name, key)
            assert not torch.allclose(value, whole[key])


def test_greedy_removes_what_adds_least_to_all_that_is_gone():
    draw = torch.Generator().manual_seed(0)
    root = torch.randn(2, 7, 7, generator=draw, dtype=torch.float64)
    gram = root @ root.mT
    order = GroupGreedy().scores({"gram": gram}).argsort(-1)
    for group in range(2):
        gone = []
        for chosen in order[group, :-1].tolist():
            left = [j for j in range(7) if j not in gone]
            costs = {j: float(gram[group][[*gone, j]][:, [*gone, j]].sum()) for j in left}
            assert chosen == min(costs, key=costs.get)
            gone.append(chosen)


def random_statistics(groups=2, n=5):
    draw = torch.Generator().manual_seed(5)
    roots = torch.randn(2, groups, n, 3 * n, generator=draw, dtype=torch.float64)
    K, Q = roots @ roots.mT
    one = torch.ones(groups, dtype=torch.float64)
    return K, Q, {"metric": K, "read": Q, "read energy": one, "metric energy": one}


def objective(K, Q, P, M):
    rest = torch.eye(len(K), dtype=K.dtype) - P @ M
    return float(torch.trace(rest.T @ K @ rest @ Q))


@pytest.mark.parametrize("kept", [1, 3, 5])
def test_a_balanced_basis_is_the_best_there_is(kept):
    K, Q, sums = random_statistics()
    basis = BalancedGroups().basis(sums, kept)
    for group in range(2):
        P, M = basis.write[group].T, basis.read[group]
        sigma = basis.values[group]
        assert torch.allclose(P.T @ K[group] @ P, sigma[:kept].diag(), atol=1e-9)
        assert torch.allclose(M @ Q[group] @ M.T, sigma[:kept].diag(), atol=1e-9)
        assert torch.allclose(M @ P, torch.eye(kept, dtype=K.dtype), atol=1e-9)
        found = objective(K[group], Q[group], P, M)
        assert found == pytest.approx(float(sigma[kept:].square().sum()), abs=1e-8)
        for chosen in itertools.combinations(range(5), kept):
            columns = torch.eye(5, dtype=K.dtype)[:, list(chosen)]
            inner = columns.T @ K[group] @ columns
            read = torch.linalg.solve(inner, columns.T @ K[group])
            assert found <= objective(K[group], Q[group], columns, read) + 1e-9
    left, whole = basis.values[:, :kept].square().sum(), basis.values.square().sum()
    assert basis.kept == pytest.approx(float(left / whole))


def test_a_group_that_was_silent_keeps_some_of_its_states_as_they_are():
    sums = {key: torch.zeros_like(value) for key, value in random_statistics()[2].items()}
    basis = BalancedGroups().basis(sums, 2)
    for group in range(2):
        product = basis.read[group] @ basis.write[group].T
        assert torch.allclose(product, torch.eye(2, dtype=product.dtype))


def test_statistics_of_a_balanced_basis_weigh_by_what_reads_and_what_it_costs():
    layer = layer_of("bamba")
    hidden = inputs(layer)
    sums = gathered(BalancedGroups(stride=4), layer, hidden)
    found = list(metrics(layer, hidden, 4))
    metric = sum(K * C.pow(2).sum(-1)[:, None, None] for K, C in found)
    trace = [K.diagonal(dim1=1, dim2=2).sum(-1) for K, _ in found]
    read = sum(
        torch.einsum("gn,gm,g->gnm", C, C, own) for (_, C), own in zip(found, trace, strict=True)
    )
    assert torch.allclose(sums["metric"], metric, rtol=1e-9)
    assert torch.allclose(sums["read"], read, rtol=1e-9)
    assert torch.allclose(sums["metric energy"], sum(trace), rtol=1e-9)
    assert torch.allclose(sums["read energy"], sum(C.pow(2).sum(-1) for _, C in found))
