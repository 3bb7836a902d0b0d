"""OBS on projections against brute force, Wanda and its own laws."""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.unchecked import unchecked
from ssmith.core.errors import InputError, NumericalError
from ssmith.core.pattern import Pattern
from ssmith.criteria.weights import OBS, RandomWeights, Wanda, WeightMagnitude
from ssmith.criteria.weights.cut import check_projection, output_error
from ssmith.criteria.weights.least_squares import refit_kept
from ssmith.criteria.weights.obs import damped_gram, inverse_factor

TINY = 1e-9
CRITERIA = (OBS(), OBS(refit=0), Wanda(), Wanda(over="tensor"), WeightMagnitude(), RandomWeights())


def problem(rows=6, inputs=8, tokens=40, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, inputs, generator=draw, dtype=torch.float64)
    mixing = torch.randn(inputs, inputs, generator=draw, dtype=torch.float64)
    x = torch.randn(tokens, inputs, generator=draw, dtype=torch.float64) @ mixing
    return weight.to(dtype), x.T @ x


def best_values(row, gram, kept):
    """Least squares of one row on its support, by the normal equations."""
    kept = list(kept)
    solved = torch.zeros_like(row)
    solved[kept] = torch.linalg.solve(gram[kept][:, kept], gram[kept] @ row)
    return solved


def test_a_single_removal_is_the_surgeons_formula():
    weight, gram = problem(rows=1, inputs=6)
    damped = damped_gram(gram, TINY)
    inverse = torch.linalg.inv(damped)
    # One column in one block: only the last column has no later one to correct.
    cut = OBS(damp=TINY, block=6, refit=200)(weight, gram, 1 / 6)
    (gone,) = (~cut.keep[0]).nonzero().flatten().tolist()
    delta = -weight[0, gone] / inverse[gone, gone] * inverse[gone]
    torch.testing.assert_close(cut.weight[0], weight[0] + delta, atol=1e-8, rtol=1e-8)
    assert cut.weight[0, gone] == 0
    cost = float(weight[0, gone] ** 2 / inverse[gone, gone])
    assert cut.error == pytest.approx(cost, rel=1e-5)


def test_the_factor_holds_the_conditional_inverse_diagonals():
    _, gram = problem(inputs=7)
    factor = inverse_factor(gram)
    torch.testing.assert_close(factor.T @ factor, torch.linalg.inv(gram), rtol=1e-8, atol=1e-10)
    assert torch.equal(factor, factor.triu())
    for column in range(7):
        rest = torch.linalg.inv(gram[column:, column:])
        assert float(factor[column, column] ** 2) == pytest.approx(float(rest[0, 0]), rel=1e-8)


def test_without_a_refit_the_update_is_the_surgeons_step_after_step():
    weight, gram = problem(rows=3, inputs=5)
    cut = OBS(damp=TINY, block=2, refit=0)(weight, gram, 0.4)
    damped = damped_gram(gram, TINY)
    for row in range(3):
        now = weight[row].clone()
        for column in range(5):
            if not cut.keep[row, column]:
                inverse = torch.linalg.inv(damped[column:, column:])
                now[column:] -= now[column] / inverse[0, 0] * inverse[0]
                now[column] = 0
        torch.testing.assert_close(cut.weight[row], now, atol=1e-7, rtol=1e-7)


def test_the_refit_reaches_least_squares_on_the_support():
    weight, gram = problem()
    cut = OBS(damp=TINY, refit=400)(weight, gram, 0.5)
    damped = damped_gram(gram, TINY)
    for row in range(len(weight)):
        kept = cut.keep[row].nonzero().flatten().tolist()
        torch.testing.assert_close(
            cut.weight[row], best_values(weight[row], damped, kept), atol=1e-6, rtol=1e-6
        )


def test_the_refit_never_raises_the_error():
    weight, gram = problem(rows=20, inputs=24, tokens=60)
    damped = damped_gram(gram, 0.01)
    keep = OBS(refit=0)(weight, gram, 0.5).keep
    now, errors = weight * keep, []
    for steps in range(12):
        fitted = refit_kept(now, weight, keep, damped, steps=steps)
        errors.append(output_error(fitted - weight, damped))
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(errors))
    assert errors[-1] < errors[0]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    amount=st.one_of(st.floats(0.0, 0.9), st.just(Pattern(keep=2, of=4))),
)
def test_the_refit_of_any_mask_beats_the_mask_alone(seed, amount):
    weight, gram = problem(rows=5, inputs=12, tokens=30, seed=seed)
    damped = damped_gram(gram, 1e-6)
    for criterion in (Wanda(), WeightMagnitude()):
        cut = criterion(weight, gram, amount)
        fitted = refit_kept(cut.weight, weight, cut.keep, damped, steps=24)
        assert output_error(fitted - weight, damped) <= output_error(
            cut.weight - weight, damped
        ) * (1 + 1e-9)


@pytest.mark.parametrize("amount", [0.5, 0.75, Pattern(keep=2, of=4)], ids=str)
def test_it_loses_less_than_wanda_and_the_refit_less_than_none(amount):
    for seed in range(4):
        weight, gram = problem(rows=32, inputs=32, tokens=200, seed=seed)
        gram = gram + 2 * torch.diag(gram.diagonal())
        ours, published, wanda = (
            criterion(weight, gram, amount).error for criterion in (OBS(), OBS(refit=0), Wanda())
        )
        assert ours < published < wanda


def test_it_comes_near_the_best_of_all_masks():
    """Brute force over all masks of one row: greedy is never better, and seldom far off."""
    ratios = []
    for seed in range(12):
        weight, gram = problem(rows=1, inputs=8, seed=seed)
        # Inputs that are hardly correlated make a problem that greedy choices can solve.
        gram = gram + 20 * torch.diag(gram.diagonal())
        best = min(
            output_error(best_values(weight[0], gram, kept)[None] - weight, gram)
            for kept in combinations(range(8), 4)
        )
        ratios.append(OBS(damp=TINY, refit=200)(weight, gram, 0.5).error / best)
    assert min(ratios) >= 1 - 1e-5
    assert max(ratios) < 1.2


@pytest.mark.parametrize("over", ["row", "tensor"])
def test_uncorrelated_inputs_rank_as_wanda_does(over):
    weight, gram = problem(rows=4, inputs=8)
    diagonal = torch.diag(gram.diagonal())
    # One row: the block's threshold is then the row's.
    rows = weight if over == "tensor" else weight[:1]
    obs = OBS(damp=TINY, refit=0, block=8)(rows, diagonal, 0.5)
    wanda = Wanda(over=over)(rows, diagonal, 0.5)
    assert torch.equal(obs.keep, wanda.keep)
    torch.testing.assert_close(obs.weight, wanda.weight, atol=1e-9, rtol=1e-7)


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 7),
    inputs=st.integers(1, 19),
    amount=st.floats(0.0, 0.99),
    block=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_budgets_are_met_to_the_weight(rows, inputs, amount, block, seed):
    weight, gram = problem(rows, inputs, 30, seed)
    wanted = int(amount * rows * inputs + 0.5 + 1e-9)
    for criterion in (*CRITERIA, OBS(block=block)):
        cut = criterion(weight, gram, amount)
        assert int((~cut.keep).sum()) == wanted, criterion
        assert not cut.weight[~cut.keep].any()


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda item: item.label)
@pytest.mark.parametrize("pattern", [Pattern(keep=2, of=4), Pattern(keep=4, of=8)], ids=str)
def test_patterns_hold_in_every_group(criterion, pattern):
    weight, gram = problem(rows=5, inputs=16, tokens=60)
    kept = criterion(weight, gram, pattern).keep.unflatten(1, (-1, pattern.of)).sum(-1)
    assert bool((kept == pattern.keep).all())


def test_patterns_do_not_depend_on_how_columns_are_blocked():
    weight, gram = problem(rows=5, inputs=16, tokens=60)
    pattern = Pattern(keep=2, of=4)
    cuts = [OBS(block=block, refit=0)(weight, gram, pattern) for block in (4, 6, 16, 128)]
    for cut in cuts[1:]:
        assert torch.equal(cut.keep, cuts[0].keep)
        torch.testing.assert_close(cut.weight, cuts[0].weight)


def test_inputs_that_are_always_zero_go_first_and_change_nothing():
    weight, gram = problem(rows=4, inputs=8)
    gram[[2, 5]] = 0
    gram[:, [2, 5]] = 0
    cut = OBS()(weight, gram, 0.25)
    assert not cut.keep[:, [2, 5]].any()
    assert cut.error == 0
    few = OBS()(weight, gram, 1 / 32)
    kept = few.keep[:, [2, 5]]
    assert torch.equal(few.weight[:, [2, 5]][kept], weight[:, [2, 5]][kept])


def test_nothing_is_left_to_chance_in_equal_scores():
    weight, gram = torch.ones(2, 4), torch.eye(4, dtype=torch.float64)
    for criterion in (Wanda(), WeightMagnitude(), OBS()):
        first, again = (criterion(weight, gram, 0.5).keep for _ in range(2))
        assert torch.equal(first, again)
    assert Wanda()(weight, gram, 0.5).keep.tolist() == [[True, True, False, False]] * 2


def test_float32_comes_close_to_float64():
    weight, gram = problem(rows=30, inputs=64, tokens=400)
    wide = OBS()(weight, gram, 0.5)
    narrow = OBS()(weight.float(), gram, 0.5)
    assert narrow.weight.dtype == torch.float32
    assert narrow.error == pytest.approx(wide.error, rel=1e-2)
    assert wide.relative_error == wide.error / wide.energy


def test_rows_are_independent():
    weight, gram = problem(rows=6, inputs=16, tokens=60)
    pattern = Pattern(keep=2, of=4)
    whole = OBS(refit=0)(weight, gram, pattern)
    alone = OBS(refit=0)(weight[2:3], gram, pattern)
    torch.testing.assert_close(whole.weight[2:3], alone.weight)


def test_what_does_not_fit_is_said():
    weight, gram = problem()
    with pytest.raises(InputError, match="a gram of shape"):
        unchecked(check_projection)(weight, gram[:3, :3], 0.5)
    with pytest.raises(InputError, match="multiple of 3"):
        Wanda()(weight, gram, Pattern(keep=1, of=3))
    with pytest.raises(InputError, match="fraction"):
        WeightMagnitude()(weight, gram, 1.0)
    with pytest.raises(NumericalError, match="not finite"):
        OBS()(weight * torch.inf, gram, 0.5)
    with pytest.raises(NumericalError, match="positive definite"):
        OBS(damp=1e-9)(weight, gram - 1e6 * torch.eye(8), 0.5)
    with pytest.raises(InputError, match="damp"):
        OBS(damp=0.0)
