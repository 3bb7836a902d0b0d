"""Units that one output map reads: costs, choices and new columns against brute force."""

import itertools

import pytest
import torch

from ssmith.criteria.outputs import (
    RIDGE,
    ColumnEnergy,
    ColumnOBS,
    OutputUnits,
    best_change,
    lost,
    made_up,
    share_that_holds,
)


def asked(gram, weight, columns, parts, removed):
    return OutputUnits(gram=gram, weight=weight, columns=columns, parts=parts, removed=removed)


def problem(seed, width, rows=4, steps=60):
    """Return the Gram of inputs that hang together, and a map."""
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=draw, dtype=torch.float64)
    f = torch.randn(steps, width, generator=draw, dtype=torch.float64) @ mix
    return f.mT @ f, torch.randn(rows, width, generator=draw, dtype=torch.float64)


def best_cost(gram, weight, gone):
    """Return the least squared error, and the map that has it, by the normal equations."""
    width = len(gram)
    ridge = RIDGE * float(gram.diagonal().mean())
    S = gram + ridge * torch.eye(width, dtype=gram.dtype)
    stays = [c for c in range(width) if c not in gone]
    new = torch.zeros_like(weight)
    # Minimise tr (W − V) S (W − V)ᵀ over V that is zero at what goes.
    new[:, stays] = (weight @ S)[:, stays] @ torch.linalg.inv(S[stays][:, stays])
    change = weight - new
    return float((change @ S * change).sum()), new


def greedy(gram, weight, columns, parts, removed):
    """Return which units stay if, one at a time, the one goes that costs least in all."""
    gone, each = [], len(columns) // parts
    for _ in range(parts * removed):
        free = [
            unit for unit in range(len(columns))
            if unit not in gone and sum(u // each == unit // each for u in gone) < removed
        ]  # fmt: skip
        costs = {
            unit: best_cost(gram, weight, columns[[*gone, unit]].flatten().tolist())[0]
            for unit in free
        }
        gone.append(min(costs, key=costs.get))
    return {unit for unit in range(len(columns)) if unit not in gone}


@pytest.mark.parametrize(("units", "width", "parts"), [(12, 1, 1), (6, 2, 1), (8, 1, 4), (4, 3, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_obs_is_greedy_by_the_least_error_that_is_left(units, width, parts, seed):
    gram, weight = problem(seed, units * width)
    columns = torch.arange(units * width).view(units, width)
    removed = units // parts // 2
    scores = ColumnOBS().scores(asked(gram, weight, columns, parts, removed))
    by_part = scores.view(parts, -1)
    order = by_part.argsort(1)[:, removed:] + torch.arange(parts)[:, None] * (units // parts)
    assert set(order.flatten().tolist()) == greedy(gram, weight, columns, parts, removed)


def test_the_first_cost_is_that_of_the_best_single_removal():
    gram, weight = problem(5, 9)
    columns = torch.arange(9).view(3, 3)
    scores = ColumnOBS().scores(asked(gram, weight, columns, 1, 1))
    costs = [best_cost(gram, weight, columns[unit].tolist())[0] for unit in range(3)]
    assert int(scores.argmin()) == costs.index(min(costs))


def test_the_columns_that_stay_make_up_for_the_others():
    gram, weight = problem(1, 7)
    for gone in itertools.combinations(range(7), 3):
        stays = torch.ones(7, dtype=torch.bool)
        stays[list(gone)] = False
        found, _ = made_up(gram, weight, stays)
        torch.testing.assert_close(found, best_cost(gram, weight, gone)[1], rtol=1e-9, atol=1e-12)
        assert lost(gram, weight, found) <= lost(gram, weight, weight * stays)
    assert torch.equal(made_up(gram, weight, torch.ones(7, dtype=torch.bool))[0], weight)


def test_of_a_fit_to_few_steps_only_what_holds_on_others_is_made():
    """Drawn anew many times, the share errs less than all of the fit, and next to least."""
    draw = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    true, errors, best = drawn(3, 20) / 9, torch.zeros(2, dtype=torch.float64), []
    shares = {80: [], 4000: []}
    for steps, found in shares.items():
        for _ in range(30):
            halves = []
            for _ in range(2):
                f = drawn(steps // 2, 20)
                halves.append((f.mT @ f, (f @ true.mT + drawn(steps // 2, 3)).mT @ f))
            share = share_that_holds(halves)
            change = best_change(*(sum(items) for items in zip(*halves, strict=True)))
            found.append(share)
            if steps == 80:
                # The second moment of steps of the kind is the identity.
                errors += torch.stack(
                    [(part * change - true).square().sum() for part in (share, 1.0)]
                )
                best.append(float((change * true).sum() / change.square().sum()))
    assert errors[0] < 0.7 * errors[1]
    assert abs(sum(shares[80]) / 30 - sum(best) / 30) < 0.15
    assert min(shares[4000]) > 0.97
    assert share_that_holds([]) == 1.0
    noise = [(torch.eye(2, dtype=torch.float64), sign * torch.ones(1, 2)) for sign in (1.0, -1.0)]
    assert share_that_holds([(g, lacking.double()) for g, lacking in noise]) == 0.0


def test_the_energy_of_a_unit_is_that_of_its_columns():
    draw = torch.Generator().manual_seed(2)
    f = torch.randn(11, 6, generator=draw, dtype=torch.float64)
    weight = torch.randn(3, 6, generator=draw, dtype=torch.float64)
    columns = torch.tensor([[0, 3], [1, 4], [2, 5]])
    scores = ColumnEnergy().scores(asked(f.mT @ f, weight, columns, 1, 1))
    wanted = [
        sum(float((f[:, [c]] @ weight[:, [c]].mT).square().sum()) for c in unit)
        for unit in columns.tolist()
    ]
    torch.testing.assert_close(scores, torch.tensor(wanted, dtype=torch.float64))


def test_what_was_never_given_anything_goes_first_and_changes_nothing():
    gram, weight = problem(3, 8)
    gram[[2, 5]], gram[:, [2, 5]] = 0.0, 0.0
    columns = torch.arange(8).view(8, 1)
    scores = ColumnOBS().scores(asked(gram, weight, columns, 1, 2))
    assert set(scores.argsort()[:2].tolist()) == {2, 5}
    silent, _ = made_up(torch.zeros_like(gram), weight, scores > scores.sort().values[1])
    assert torch.isfinite(silent).all()
