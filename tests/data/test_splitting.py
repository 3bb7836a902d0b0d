from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmith.core.errors import DataError
from ssmith.core.sequences import SPLITS
from ssmith.data import load_data
from ssmith.data.assemble import assemble, standardise
from ssmith.data.digest import digest_of
from ssmith.data.pool import Pool
from ssmith.data.splitting import FRACTIONS, draw_splits, drop_duplicates, quotas


def pool(x, y, classes=("a", "b"), **more):
    lengths = torch.full((len(x),), x.shape[1])
    return Pool(
        name="p",
        source="test",
        task="classification",
        x=x,
        lengths=lengths,
        y=y,
        classes=classes,
        **more,
    )


@settings(max_examples=200, deadline=None)
@given(st.integers(4, 5000))
def test_quotas_sum_and_stay_near_the_fractions(count):
    share = quotas(count)
    assert sum(share.values()) == count
    assert min(share.values()) >= 1
    for name, fraction in FRACTIONS.items():
        assert abs(share[name] - fraction * count) <= 1.5


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(4, 30), min_size=2, max_size=4))
def test_draw_is_stratified_and_keeps_copies_together(seed, counts):
    y = torch.cat([torch.full((n,), i) for i, n in enumerate(counts)])
    x = torch.arange(float(len(y)))[:, None, None].repeat(1, 3, 1)
    x, y = torch.cat([x, x[:5]]), torch.cat([y, y[:5]])
    drawn = draw_splits(pool(x, y, tuple("abcd"[: len(counts)])), seed=seed)
    assert drawn.split_of[:5] == drawn.split_of[-5:]
    for i, n in enumerate(counts):
        got = Counter(
            s for s, label in zip(drawn.split_of[:-5], y[:-5].tolist(), strict=True) if label == i
        )
        assert got == Counter(quotas(n))


def test_duplicates_leave_and_are_counted():
    x = torch.arange(10.0)[:, None, None]
    twice = pool(torch.cat([x, x[2:4]]), torch.tensor([0, 1] * 6))
    kept = drop_duplicates(twice)
    assert torch.equal(kept.x, x)
    assert kept.details["duplicates_dropped"] == 2


def test_padding_does_not_hide_or_make_a_duplicate():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 7.0]])[..., None]
    one = Pool(
        name="p",
        source="",
        task="classification",
        x=x,
        lengths=torch.tensor([1, 2, 1]),
        y=torch.tensor([0, 1, 0]),
        classes=("a", "b"),
    )
    assert drop_duplicates(one).lengths.tolist() == [1, 2]


def test_scaling_knows_the_training_split_only():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 5, 2, generator=generator) * 3 + 7
    split_of = ("train",) * 20 + ("validation",) * 4 + ("selection",) * 8 + ("test",) * 8
    y = torch.tensor([0, 1] * 20)
    changed = x.clone()
    changed[20:] = changed[20:] * 100 - 4
    first = standardise(pool(x, y, split_of=split_of))
    second = standardise(pool(changed, y, split_of=split_of))
    assert torch.equal(first.x[:20], second.x[:20])
    assert first.details == second.details
    train = x[:20].double().reshape(-1, 2)
    expected = (x[:20].double() - train.mean(0)) / train.std(0, correction=0)
    torch.testing.assert_close(first.x[:20].double(), expected, atol=1e-6, rtol=1e-6)


def test_a_constant_channel_becomes_zero():
    x = torch.full((40, 5, 1), 0.1)
    split_of = ("train",) * 40
    scaled = standardise(pool(x, torch.tensor([0, 1] * 20), split_of=split_of))
    assert float(scaled.x.abs().max()) < 1e-6


def test_scaling_needs_a_series_and_a_training_split():
    x, y = torch.zeros(4, 3, 1), torch.tensor([0, 1, 0, 1])
    with pytest.raises(DataError, match="no training split"):
        standardise(pool(x, y, split_of=("test",) * 4))
    with pytest.raises(DataError, match="tokens"):
        standardise(pool(x[..., 0].long(), y, vocabulary=4, split_of=("train",) * 4))
    with pytest.raises(DataError, match="no splits"):
        assemble(pool(x, y))


def test_too_few_per_class(arrays, write):
    arrays["y"] = np.array(["a"] * 37 + ["b"] * 3)
    with pytest.raises(DataError, match="'b': 3"):
        load_data(write(arrays))


def test_seed_moves_the_draw_and_nothing_else(arrays, write):
    path = write(arrays)
    first, again, other = (load_data(path, seed=seed) for seed in (0, 0, 1))
    assert first.sha256 == again.sha256 != other.sha256
    assert first.details["split_seed"] == 0
    assert {n: len(p) for n, p in first.splits.items()} == {
        n: len(p) for n, p in other.splits.items()
    }
    for name in SPLITS:
        assert first.splits[name].y.bincount().tolist() == other.splits[name].y.bincount().tolist()


def test_digest_sees_every_tensor(arrays, write):
    data = load_data(write(arrays))
    digest = digest_of(data.splits)
    assert digest == data.sha256
    assert digest == digest_of(dict(reversed(data.splits.items())))
    for name in SPLITS:
        for key in ("x", "lengths", "y"):
            tensor = getattr(data.splits[name], key)
            tensor.view(-1)[0] += 1
            assert digest_of(data.splits) != digest
            tensor.view(-1)[0] -= 1
