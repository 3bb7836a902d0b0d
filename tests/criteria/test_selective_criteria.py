"""Criteria for selective layers against their formulas, written out over every state."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.scan_cases import scan_inputs
from helpers.selective import every_state, layer_weights
from helpers.tolerances import assert_close
from helpers.unchecked import build
from ssmith.core.errors import InputError
from ssmith.criteria import by_name, names
from ssmith.criteria.selective import (
    FastestDecay,
    GramGreedy,
    LogMagnitude,
    OutputEnergy,
    RandomEntries,
    SparseSSM,
    SparseSSMVotes,
    StateEnergy,
)
from ssmith.criteria.selective.gram import greedy_scores
from ssmith.criteria.selective.sparsessm import time_weights

SIZES = (3, 37, 4, 5)
# Sums of float32 states in another order.
CLOSE = {"atol": 1e-12, "rtol": 1e-9}


@pytest.fixture
def scan():
    return scan_inputs(SIZES, ("D", "z", "dt_bias"))


@pytest.fixture
def weights(scan):
    return layer_weights(scan)


def scores(criterion, scan, weights, *, columns=False, removed=7):
    scoring = criterion.columns if columns else criterion.entries
    sums = {} if scoring.gather is None else scoring.gather(scan, weights, removed)
    return scoring.score(sums, weights)


def gate(scan):
    return torch.nn.functional.silu(scan.z)[..., None]


def test_output_energy_is_the_output_an_entry_takes_away(scan, weights):
    A_bar, before, after = every_state(scan)
    lost = gate(scan) * scan.C[:, :, None] * A_bar * before
    wanted = lost.square().mean((0, 1)) * weights.out_energy[:, None]
    torch.testing.assert_close(scores(OutputEnergy(), scan, weights), wanted, **CLOSE)
    lost = gate(scan) * scan.C[:, :, None] * after
    wanted = weights.out_energy @ lost.square().mean((0, 1))
    torch.testing.assert_close(scores(OutputEnergy(), scan, weights, columns=True), wanted, **CLOSE)


def test_state_energy_is_the_energy_of_the_state(scan, weights):
    A_bar, before, after = every_state(scan)
    wanted = (A_bar * before).square().mean((0, 1))
    torch.testing.assert_close(scores(StateEnergy(), scan, weights), wanted, **CLOSE)
    wanted = after.square().mean((0, 1)).sum(0)
    torch.testing.assert_close(scores(StateEnergy(), scan, weights, columns=True), wanted, **CLOSE)


@pytest.mark.parametrize("kind", ["power", "discount", "linear", "window", "uniform"])
def test_sparsessm_repeats_the_released_running_update(scan, weights, kind):
    criterion = SparseSSM(time_weights=kind, power=1.5, discount=0.8)
    A_bar, before, _ = every_state(scan)
    summed = torch.zeros_like(before[0])
    for number, sequence in enumerate(before):
        summed = summed * (number / (number + 1)) + sequence**2
    length = before.shape[1]
    raw = {
        "power": [(t + 1) ** -1.5 for t in range(length)],
        "discount": [0.8**t for t in range(length)],
        "linear": [length - t for t in range(length)],
        "window": [float(t < max(1, math.ceil(length / 4))) for t in range(length)],
        "uniform": [1.0] * length,
    }[kind]
    over_time = torch.tensor(raw, dtype=torch.float64)
    over_time = over_time / over_time.sum()
    wanted = torch.einsum("l,len->en", over_time, A_bar.sum(0) ** 2 * summed)
    torch.testing.assert_close(scores(criterion, scan, weights), wanted, **CLOSE)
    exact = torch.einsum("l,blen->en", over_time, (A_bar * before) ** 2)
    found = scores(SparseSSM(
        time_weights=kind, power=1.5, discount=0.8, accumulation="exact"
    ), scan, weights)  # fmt: skip
    torch.testing.assert_close(found, exact, **CLOSE)
    assert criterion.entries.lockstep
    assert torch.isclose(time_weights(criterion, length).sum(), torch.tensor(1.0).double())


@pytest.mark.parametrize("length, steps", [(1, 1), (3, 1), (5, 2), (8, 2), (9, 3), (130, 33)])
def test_the_window_is_a_quarter_rounded_up(length, steps):
    weights = time_weights(SparseSSM(time_weights="window"), length)
    assert weights.tolist() == pytest.approx([1 / steps] * steps + [0.0] * (length - steps))


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("first_step", ["skip", "vote"])
@pytest.mark.parametrize("accumulation", ["official", "exact"])
def test_votes_are_cast_step_by_step(scan, weights, columns, first_step, accumulation):
    removed = 2 if columns else 7
    criterion = SparseSSMVotes(first_step=first_step, accumulation=accumulation)
    _, before, _ = every_state(scan)
    summed = torch.zeros_like(before[0])
    for number, sequence in enumerate(before):
        faded = number / (number + 1) if accumulation == "official" else 1.0
        summed = summed * faded + sequence**2
    metric = weights.A_log**2 * summed
    metric = metric.sum(1) if columns else metric.flatten(1)
    votes = [0.0] * metric.shape[1]
    for step, row in enumerate(metric.tolist()):
        if step == 0 and first_step == "skip":
            continue
        # The smallest first; of equal ones the later.
        order = sorted(range(len(row)), key=lambda unit: (row[unit], -unit))
        for unit in order[:removed]:
            votes[unit] += 1
    found = scores(criterion, scan, weights, columns=columns, removed=removed)
    assert found.flatten().tolist() == [-count for count in votes]
    summed_form = SparseSSMVotes(form="sum", accumulation=accumulation)
    found = scores(summed_form, scan, weights, columns=columns, removed=removed)
    torch.testing.assert_close(found.flatten(), metric.sum(0), **CLOSE)


def test_gram_gathers_products_of_what_is_removed(scan, weights):
    A_bar, before, after = every_state(scan)
    lost = gate(scan) * scan.C[:, :, None] * A_bar * before
    steps = lost.shape[0] * lost.shape[1]
    found = GramGreedy().entries.gather(scan, weights, 0)
    wanted = torch.einsum("blen,blek->enk", lost, lost) / steps
    torch.testing.assert_close(found["gram"] / found["weight"], wanted, **CLOSE)
    lost = gate(scan) * scan.C[:, :, None] * after
    found = GramGreedy().columns.gather(scan, weights, 0)
    wanted = torch.einsum("e,blen,blek->nk", weights.out_energy, lost, lost) / steps
    torch.testing.assert_close(found["gram"] / found["weight"], wanted, **CLOSE)


@given(seed=st.integers(0, 200), n=st.integers(1, 6))
def test_greedy_path_equals_trying_every_unit_at_every_step(seed, n):
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(3, 9, n, generator=draw, dtype=torch.float64)
    gram = features.mT @ features
    present = torch.rand(3, n, generator=draw) > 0.2
    found = greedy_scores(gram, present)
    for row in range(3):
        gone, reached = [], -torch.inf
        while len(gone) < int(present[row].sum()):
            left = [unit for unit in range(n) if unit not in gone and present[row, unit]]

            def loss(units, row=row):
                return float(gram[row][units][:, units].sum())

            costs = {unit: loss([*gone, unit]) - (loss(gone) if gone else 0.0) for unit in left}
            pick = min(left, key=lambda unit: (round(costs[unit], 9), unit))
            reached = max(reached, costs[pick])
            assert found[row, pick] == pytest.approx(reached, abs=1e-9)
            gone.append(pick)


def test_baselines_rank_by_their_names(scan, weights):
    A_log = weights.A_log
    assert torch.equal(scores(FastestDecay(), scan, weights), -A_log)
    assert torch.equal(scores(LogMagnitude(), scan, weights), A_log.abs())
    assert torch.equal(scores(LogMagnitude(), scan, weights, columns=True), A_log.abs().mean(0))
    draws = [scores(RandomEntries(seed=seed), scan, weights) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    for item in (FastestDecay(), LogMagnitude(), RandomEntries()):
        assert item.entries.gather is None and item.columns.gather is None


@pytest.mark.parametrize("criterion", [OutputEnergy(), StateEnergy(), GramGreedy()])
@pytest.mark.parametrize("unit", ["entries", "columns"])
def test_statistics_add_up_over_windows_and_ignore_padding(criterion, unit):
    scan = scan_inputs((4, 20, 3, 4), ("D", "z", "valid"))
    weights = layer_weights(scan)
    per_row = ("x", "dt", "B", "C", "z", "valid")

    def rows(part):
        given = {
            name: value[part] if name in per_row else value
            for name, value in scan.tensors().items()
        }
        return type(scan)(**given, dt_softplus=scan.dt_softplus)

    gather = getattr(criterion, unit).gather
    whole = gather(scan, weights, 3)
    parts = [gather(rows(slice(k, k + 1)), weights, 3) for k in range(4)]
    for name, value in whole.items():
        assert_close("twin", sum(part[name] for part in parts), value)
    assert whole["weight"] == int(scan.valid.sum())


def test_names_find_criteria_and_suggest():
    assert len(names("selective")) == len(
        {by_name(name, "selective") for name in names("selective")}
    )
    assert by_name("Output_Energy", "selective") == OutputEnergy()
    with pytest.raises(InputError, match="did you mean 'sparsessm'"):
        by_name("sparsesm", "selective")


@pytest.mark.parametrize(
    "wrong",
    [{"time_weights": "late"}, {"power": -1}, {"discount": 0}, {"accumulation": "fast"}],
)
def test_settings_outside_their_domain_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        build(SparseSSM, **wrong)


def test_sparsessm_has_no_score_for_columns():
    assert SparseSSM().columns is None
