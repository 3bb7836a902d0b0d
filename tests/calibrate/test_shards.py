"""Sums over shards: the same bits for one, two, four and eight processes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssmith.calibrate.shards import Group, ShardSum, added, appended
from ssmith.core.errors import InputError


def value(window, seed):
    draw = torch.Generator().manual_seed(1000 * seed + window)
    return {"a": torch.randn(3, 2, generator=draw, dtype=torch.float64) * 10.0 ** (window % 5)}


def branch(group, windows, seed):
    """What one process holds after its windows."""
    found = ShardSum()
    for shard, rows in group.shards(windows):
        sums = None
        for window in rows:
            sums = added(sums, value(window, seed))
        found.add(shard, sums)
    return found


@given(
    windows=st.integers(8, 40), size=st.sampled_from([2, 4, 8]), seed=st.integers(0, 50)
)  # fmt: skip
def test_branches_of_several_processes_add_up_to_the_bits_of_one(windows, size, seed):
    alone = branch(Group(), windows, seed).totals(Group())
    joined = ShardSum()
    for rank in range(size):
        held = branch(Group(rank=rank, size=size), windows, seed).nodes
        # Eight shards in `size` branches: each process holds one, at the level of its size.
        ((level, place),) = held
        assert (8 >> level, place) == (size, rank)
        joined._add(level, place, held[level, place])
    together = joined.totals(Group())
    assert torch.equal(alone.sums["a"], together.sums["a"])
    for mine, theirs in zip(alone.halves, together.halves, strict=True):
        assert torch.equal(mine["a"], theirs["a"])


@given(windows=st.integers(8, 40), size=st.sampled_from([1, 2, 4, 8]))
def test_samples_of_several_processes_come_in_the_order_of_windows(windows, size):
    """Of every third window there is none, of the others one more than of the last."""
    whole = ShardSum(samples=True)
    for rank in range(size):
        group, held = Group(rank=rank, size=size), ShardSum(samples=True)
        for shard, rows in group.shards(windows):
            sums = None
            for window in rows:
                sums = appended(sums, {"a": torch.full((window % 3, 2), float(window))})
            held.add(shard, sums)
        for (level, place), found in held.nodes.items():
            whole._add(level, place, found)
    wanted = [float(window) for window in range(windows) for _ in range(window % 3)]
    assert whole.totals(Group()).sums["a"][:, 1].tolist() == wanted


@given(windows=st.integers(1, 30), seed=st.integers(0, 20))
def test_every_window_counts_once(windows, seed):
    totals = branch(Group(), windows, seed).totals(Group())
    wanted = sum(value(window, seed)["a"] for window in range(windows))
    torch.testing.assert_close(totals.sums["a"], wanted, atol=1e-7, rtol=1e-9)
    assert (totals.halves is None) == (windows == 1)


def test_groups_that_cannot_round_the_same_are_refused():
    with pytest.raises(InputError, match="3 processes"):
        Group(size=3)
    with pytest.raises(InputError, match="1 windows for 2 processes"):
        list(Group(size=2).shards(1))
