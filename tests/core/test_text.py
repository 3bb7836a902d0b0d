"""Rows cut from a text: what is in them, what is counted, and what is said when none fits."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssmith.core.errors import DataError, InputError
from ssmith.core.text import Text, TokenStream


def text(count=100, *, sizes=True):
    ids = torch.arange(count, dtype=torch.int32)
    stream = TokenStream(ids=ids, text_bytes=ids % 3 if sizes else None)
    return Text(name="counting", splits={"all": stream, "test": stream}, vocabulary=count)


@given(st.integers(2, 60), st.integers(2, 25), st.data())
def test_every_token_but_those_without_context_is_counted_once(count, length, data):
    stride = data.draw(st.integers(1, length))
    rows = text(count).windows(length, stride=stride)
    counted = [
        int(token)
        for ids, valid, first in zip(rows.ids, rows.lengths, rows.scored_from, strict=True)
        for token in ids[int(first) : int(valid)]
    ]
    assert len(counted) == len(set(counted)) == rows.scored
    without_context = {0} if stride < length else set(range(0, count, length))
    assert set(counted) == set(range(count)) - without_context
    # Nothing is lost but a last row of one token, which has nothing to predict.
    assert rows.details["tokens_in_no_row"] == (
        1 if stride == length and count % length == 1 else 0
    )


@given(st.integers(2, 40), st.integers(2, 12))
def test_bytes_are_those_of_the_counted_tokens(count, length):
    rows = text(count).windows(length)
    expected = [
        int((ids[int(first) : int(valid)] % 3).sum())
        for ids, valid, first in zip(rows.ids, rows.lengths, rows.scored_from, strict=True)
    ]
    assert rows.text_bytes.tolist() == expected
    assert text(count, sizes=False).windows(length).text_bytes is None


def test_rows_overlap_by_what_the_stride_leaves_and_the_tail_may_be_dropped():
    rows = text(23).windows(10, stride=6)
    assert [row[0].item() for row in rows.ids] == [0, 6, 12, 18]
    assert rows.scored_from.tolist() == [1, 4, 4, 4]
    assert rows.lengths.tolist() == [10, 10, 10, 5]
    assert rows.ids[3, 5:].tolist() == [0] * 5
    whole = text(23).windows(10, stride=6, tail=False)
    assert whole.lengths.tolist() == [10, 10, 10]
    assert whole.details["tokens_in_no_row"] == 1


def test_samples_are_the_same_for_a_seed_and_fewer_are_the_first_of_more():
    many, few = text().sample(8, 20, seed=3, split="all"), text().sample(3, 20, seed=3, split="all")
    assert torch.equal(many.ids[:3], few.ids)
    assert not torch.equal(many.ids, text().sample(8, 20, seed=4, split="all").ids)
    assert len({int(row[0]) for row in many.ids}) == 8
    for row in many.ids:
        assert torch.equal(row, torch.arange(int(row[0]), int(row[0]) + 20))
    assert many.pad_share == 0
    assert many.scored == 8 * 19


def test_every_place_is_drawn_before_samples_do_not_fit():
    rows = text(12).sample(3, 10, split="all")
    assert sorted(int(row[0]) for row in rows.ids) == [0, 1, 2]
    with pytest.raises(DataError, match=r"4 samples of 10 tokens.*at most 9 tokens each"):
        text(12).sample(4, 10, split="all")
    with pytest.raises(DataError, match="at most 11 samples"):
        text(12).sample(40, 10, split="all")


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda t: t.windows(1), InputError, "length is 1.*≥ 2"),
        (lambda t: t.windows(5, stride=6), InputError, "stride is 6.*at most length, 5"),
        (lambda t: t.windows(5, stride=0), InputError, "stride is 0"),
        (lambda t: t.windows(5, split="best"), InputError, "split 'best'.*all, test"),
        (lambda t: t.sample(0, 5), InputError, "samples is 0"),
        (lambda t: t.sample(1, 5, seed=-1, split="all"), InputError, "seed is -1"),
        (lambda _: text(1).windows(4), DataError, r"has 1 token.*at least 2"),
        (lambda _: text(5).windows(9, tail=False), DataError, "5 tokens, which is no whole row"),
    ],
)
def test_what_cannot_be_cut_is_said(call, kind, words):
    with pytest.raises(kind, match=words):
        call(text())


@given(st.integers(1, 30), st.integers(1, 40))
def test_windows_are_taken_from_all_over(rows, count):
    rows_of_ten = text(10 * rows)
    windows = rows_of_ten.windows(10, split="all")
    chosen = windows.spread(count)
    starts = chosen.ids[:, 0].tolist()
    assert starts == sorted(set(starts))
    assert len(chosen) == min(rows, count)
    gaps = {after - before for before, after in itertools.pairwise(starts)}
    assert not gaps or max(gaps) - min(gaps) <= 10
