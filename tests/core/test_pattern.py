"""Patterns and exact counts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmith.core.errors import InputError
from ssmith.core.pattern import (
    Pattern,
    amount_as_json,
    keep_largest,
    removed_counts,
    removed_share,
)


def test_a_pattern_reads_and_shows_itself():
    pattern = Pattern.parse("2:4")
    assert (pattern.keep, pattern.of, pattern.removed) == (2, 4, 0.5)
    assert str(pattern) == amount_as_json(pattern) == "2:4"
    assert amount_as_json(0.3) == removed_share(0.3) == 0.3
    assert removed_share(Pattern(keep=1, of=4)) == 0.75


@pytest.mark.parametrize("text", ["", "4", "4:2", "0:4", "2:2", "a:b", "2:4:8", "-1:4"])
def test_what_is_no_pattern_is_said(text):
    with pytest.raises(InputError, match="N:M"):
        Pattern.parse(text)


def test_numbers_outside_their_domain_are_said():
    with pytest.raises(InputError, match="keep"):
        Pattern(keep=0, of=4)
    with pytest.raises(InputError, match="of is 2"):
        Pattern(keep=2, of=2)
    with pytest.raises(InputError, match="multiple of 4"):
        Pattern(keep=2, of=4).mask(torch.ones(6))


def test_the_largest_stay_and_ties_go_by_index():
    scores = torch.tensor([[1.0, 4.0, 3.0, 2.0, 5.0, 5.0, 5.0, 5.0]])
    kept = Pattern(keep=2, of=4).mask(scores)
    assert kept.int().tolist() == [[0, 1, 1, 0, 1, 1, 0, 0]]
    assert keep_largest(scores, 4).int().tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert keep_largest(torch.ones(3), 1).tolist() == [True, True, False]


def test_every_row_may_lose_a_number_of_its_own():
    scores = torch.arange(8.0).view(2, 4)
    kept = keep_largest(scores, torch.tensor([1, 3]))
    assert kept.int().tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]


@settings(deadline=None, max_examples=50)
@given(share=st.floats(0, 0.999), sizes=st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_counts_are_exact_after_every_part(share, sizes):
    counts = removed_counts(share, torch.tensor(sizes))
    assert bool((counts >= 0).all()) and bool((counts <= torch.tensor(sizes)).all())
    for end in range(1, len(sizes) + 1):
        assert abs(int(counts[:end].sum()) - share * sum(sizes[:end])) <= 0.5 + 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_ties_and_extremes_are_kept_as_a_stable_sort_would(seed):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(-2, 3, (5, 9), generator=draw).double()
    scores[scores == -2] = -torch.inf
    ranks = scores.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    for removed in (*range(10), torch.randint(0, 10, (5,), generator=draw)):
        gone = removed[:, None] if isinstance(removed, torch.Tensor) else removed
        assert torch.equal(keep_largest(scores, removed), ranks < 9 - gone)
