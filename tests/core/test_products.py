"""Column refits against least squares on features that were written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.unchecked import unchecked
from ssmith.core.errors import InputError
from ssmith.core.products import elimination_costs, refit_columns, refit_residual

TINY = 1e-12


def features(n=4, rows=200, seed=0):
    """Products C_j h_k, rows k·n + j, of correlated states and read-outs."""
    draw = torch.Generator().manual_seed(seed)
    h, C = (
        torch.randn(rows, n, generator=draw, dtype=torch.float64)
        + 0.7 * torch.randn(rows, 1, generator=draw, dtype=torch.float64)
        for _ in range(2)
    )
    return (h[:, :, None] * C[:, None, :]).flatten(1), (h * C).sum(1)


def squared_error(z, wanted, kept):
    """Least squares of the removed contribution on the kept columns' features."""
    if not any(kept):
        return float(wanted.square().sum())
    n = len(kept)
    on = torch.tensor(kept).repeat_interleave(n)
    solved = torch.linalg.lstsq(z[:, on], wanted[:, None], driver="gelsd").solution[:, 0]
    return float((z[:, on] @ solved - wanted).square().sum())


@settings(deadline=None, max_examples=25)
@given(kept=st.lists(st.booleans(), min_size=4, max_size=4).filter(any), seed=st.integers(0, 99))
def test_a_refit_is_least_squares(kept, seed):
    z, wanted = features(seed=seed)
    found = refit_columns(z.T @ z, torch.tensor(kept), TINY)
    assert found.after == pytest.approx(squared_error(z, wanted, kept), rel=1e-6, abs=1e-6)
    own = torch.eye(4, dtype=torch.float64)[torch.tensor(kept)]
    on = torch.tensor(kept).repeat_interleave(4)
    output = z[:, on] @ (own + found.mixing).flatten()
    assert float((output - wanted).square().sum()) == pytest.approx(found.after, abs=1e-6)
    plain = z[:, on] @ own.flatten()
    assert float((plain - wanted).square().sum()) == pytest.approx(found.before, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(
    kept=st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
    ridge=st.floats(1e-9, 10.0),
    seed=st.integers(0, 99),
)
def test_a_refit_never_costs_more_than_none(kept, ridge, seed):
    z, _ = features(seed=seed)
    found = refit_columns(z.T @ z, torch.tensor(kept), ridge)
    assert found.after <= found.before * (1 + 1e-9) + 1e-9


def test_keeping_all_columns_changes_nothing():
    z, _ = features()
    found = refit_columns(z.T @ z, torch.ones(4, dtype=torch.bool), 1e-6)
    assert found.before == found.after == 0
    assert not found.mixing.any()


@pytest.mark.parametrize("seed", range(4))
def test_elimination_is_greedy_over_refits_from_scratch(seed):
    z, wanted = features(seed=seed)
    costs = elimination_costs(z.T @ z, TINY)
    kept = [True] * 4
    for _ in range(4):
        tries = {}
        for column in [i for i in range(4) if kept[i]]:
            without = [on and i != column for i, on in enumerate(kept)]
            tries[column] = squared_error(z, wanted, without)
        best = min(tries, key=tries.get)
        assert float(costs[best]) == pytest.approx(tries[best], rel=1e-5, abs=1e-5)
        kept[best] = False


def test_a_column_that_another_one_copies_costs_nothing():
    z, _ = features()
    doubled = z.unflatten(1, (4, 4))
    doubled[:, 3] = 2 * doubled[:, 1]
    z = doubled.flatten(1)
    costs = elimination_costs(z.T @ z, 1e-9)
    whole = float(costs.max())
    assert float(costs[[1, 3]].min()) < 1e-6 * whole
    assert float(costs[[0, 2]].min()) > 1e-3 * whole


def test_columns_that_are_always_zero_go_first():
    z, _ = features()
    z.unflatten(1, (4, 4))[:, 2] = 0
    costs = elimination_costs(z.T @ z, 1e-9)
    assert float(costs[2]) == 0 and int(costs.argmin()) == 2
    keep = torch.tensor([True, True, False, True])
    assert refit_columns(z.T @ z, keep, 1e-9).after == 0


def test_a_residual_is_fitted_by_least_squares():
    z, wanted = features()
    part = z[:, :8]
    found = refit_residual(
        part.T @ part, part.T @ wanted, float(wanted.square().sum()), kept=2, ridge=TINY
    )
    solved = torch.linalg.lstsq(part, wanted[:, None]).solution[:, 0]
    torch.testing.assert_close(found.mixing.flatten(), solved, rtol=1e-6, atol=1e-8)
    error = float((part @ solved - wanted).square().sum())
    assert found.after == pytest.approx(error, rel=1e-8)
    assert found.before == pytest.approx(float(wanted.square().sum()))


def test_what_does_not_fit_is_said():
    with pytest.raises(InputError, match="at least one of n"):
        refit_columns(torch.eye(4, dtype=torch.float64), torch.zeros(2, dtype=torch.bool), 1e-6)
    with pytest.raises(InputError, match="n²"):
        unchecked(elimination_costs)(torch.eye(5, dtype=torch.float64), 1e-6)
