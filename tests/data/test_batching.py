from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmith.core.errors import DataError, InputError
from ssmith.core.sequences import Sequences
from ssmith.data import batches


def part(lengths):
    count, longest = len(lengths), max(lengths, default=1)
    x = torch.zeros(count, longest, 1)
    for i, length in enumerate(lengths):
        x[i, :length] = i + 1
    return Sequences(x=x, lengths=torch.tensor(lengths, dtype=torch.int64), y=torch.arange(count))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=20),
    st.integers(1, 25),
    st.none() | st.integers(0, 9),
)
def test_every_sequence_once_and_trimmed(lengths, size, seed):
    whole = part(lengths)
    shuffle = None if seed is None else torch.Generator().manual_seed(seed)
    seen = []
    for batch in batches(whole, size=size, generator=shuffle):
        assert 1 <= len(batch) <= size
        assert batch.x.shape[1] == int(batch.lengths.max())
        for row, length, y in zip(batch.x, batch.lengths.tolist(), batch.y.tolist(), strict=True):
            assert length == lengths[y]
            assert torch.equal(row, whole.x[y, : batch.x.shape[1]])
            seen.append(y)
    assert sorted(seen) == list(range(len(lengths)))
    if seed is None:
        assert seen == sorted(seen)


def test_order_is_determined_by_the_generator():
    whole = part([3] * 50)

    def order(seed):
        shuffle = torch.Generator().manual_seed(seed)
        return torch.cat([batch.y for batch in batches(whole, size=7, generator=shuffle)]).tolist()

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0) != list(range(50))


def test_epochs_differ_with_one_generator():
    shuffle = torch.Generator().manual_seed(0)
    first, second = (
        torch.cat([batch.y for batch in batches(part([3] * 50), size=7, generator=shuffle)])
        for _ in range(2)
    )
    assert not torch.equal(first, second)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "4"])
def test_bad_sizes_are_refused_before_the_first_batch(size):
    with pytest.raises((InputError, TypeError), match="size"):
        batches(part([1]), size=size)


def test_an_empty_split_is_refused_before_the_first_batch():
    with pytest.raises(DataError, match="no sequence"):
        batches(part([]), size=2)
