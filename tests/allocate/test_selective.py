"""Counts, ties and patterns of cuts in one layer, and how alike two choices are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssmith.allocate.selective import (
    columns_by_cost,
    entries_by_cost,
    keep_entries,
    removed_count,
    stability,
)
from ssmith.core.errors import InputError
from ssmith.core.pattern import Pattern, keep_largest


@given(
    e=st.integers(1, 6), n=st.integers(2, 6), share=st.floats(0.05, 0.95), seed=st.integers(0, 99)
)  # fmt: skip
def test_the_smallest_scores_go_and_the_count_is_exact(e, n, share, seed):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (e, n), generator=draw).double()
    count = round(share * e * n)
    if not 0 < count < e * n:
        with pytest.raises(InputError, match="none" if count == 0 else "all of them"):
            removed_count(share, e * n, "entries")
        return
    keep = keep_entries(
        scores, torch.ones(e, n, dtype=torch.bool), removed_count(share, e * n, "x")
    )
    flat = scores.flatten().tolist()
    # Of equal scores the later one goes first.
    gone = sorted(range(e * n), key=lambda unit: (flat[unit], -unit))[:count]
    assert sorted((~keep).flatten().nonzero().flatten().tolist()) == sorted(gone)


def test_entries_cut_before_count_into_the_same_budget():
    scores = torch.arange(8.0).double().view(2, 4)
    present = torch.tensor([[True, True, True, True], [True, True, False, False]])
    keep = keep_entries(scores, present, 4)
    assert keep.tolist() == [[False, False, True, True], [True, True, False, False]]
    keep = keep_entries(scores, present, Pattern(keep=2, of=4))
    assert keep.tolist() == [[False, False, True, True], [True, True, False, False]]


def test_a_pattern_keeps_n_of_every_m_states_of_a_channel():
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(5, 8, generator=draw, dtype=torch.float64)
    keep = keep_entries(scores, torch.ones(5, 8, dtype=torch.bool), Pattern(keep=2, of=4))
    assert (keep.view(5, 2, 4).sum(-1) == 2).all()
    worst_kept = scores.masked_fill(~keep, 2.0).view(5, 2, 4).amin(-1)
    best_gone = scores.masked_fill(keep, -1.0).view(5, 2, 4).amax(-1)
    assert (worst_kept > best_gone).all()
    with pytest.raises(InputError, match="a multiple of 4"):
        keep_entries(scores[:, :6], torch.ones(5, 6, dtype=torch.bool), Pattern(keep=2, of=4))


@given(seed=st.integers(0, 99), removed=st.integers(0, 24))
def test_a_split_takes_the_cheapest_entries_of_all_layers(seed, removed):
    draw = torch.Generator().manual_seed(seed)
    costs = {
        name: torch.randint(0, 5, (3, width), generator=draw).double()
        for name, width in (("a", 2), ("b", 4), ("c", 2))
    }
    counts = entries_by_cost(costs, removed)
    assert sum(counts.values()) == removed
    spent = sum(
        float(cost.flatten().sort().values[: counts[name]].sum()) for name, cost in costs.items()
    )
    everything = torch.cat([cost.flatten() for cost in costs.values()])
    assert spent == float(everything.sort().values[:removed].sum())


def test_columns_go_where_they_cost_least_and_none_is_emptied():
    costs = {
        "a": torch.tensor([5.0, 1.0, 9.0]).double(), "b": torch.tensor([2.0, 3.0, 0.5]).double(),
        "c": torch.tensor([0.1, 0.1]).double(),
    }  # fmt: skip
    assert columns_by_cost(costs, 1) == {"a": 0, "b": 0, "c": 1}
    assert columns_by_cost(costs, 4) == {"a": 1, "b": 2, "c": 1}
    assert columns_by_cost(costs, 5) == {"a": 2, "b": 2, "c": 1}
    with pytest.raises(InputError, match="1 to 5"):
        columns_by_cost(costs, 6)
    assert keep_largest(costs["b"], 2).tolist() == [False, True, False]


def test_stability_is_spearmans_correlation_and_the_overlap():
    scipy = pytest.importorskip("scipy.stats")
    draw = torch.Generator().manual_seed(0)
    first = torch.randint(0, 6, (40,), generator=draw).double()
    second = first + torch.randint(0, 4, (40,), generator=draw)
    kept = (keep_largest(first, 20), keep_largest(second, 20))
    found = stability((first, second), kept)
    wanted = scipy.spearmanr(first.numpy(), second.numpy()).statistic
    assert found.rank_correlation == pytest.approx(wanted, abs=1e-12)
    assert found.overlap == pytest.approx(float((kept[0] & kept[1]).sum()) / 20)
    assert not found.stable
    same = stability((first, first), (kept[0], kept[0]))
    assert (same.rank_correlation, same.overlap) == (pytest.approx(1.0), 1.0)
    assert same.stable
