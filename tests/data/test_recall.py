"""Texts of recall: what is asked stood in them before, and far back."""

import re

import pytest
import torch

from ssmith import data
from ssmith.core.errors import InputError
from ssmith.core.text import TokenStream
from ssmith.data import RECALL_TASKS, ByteTokenizer


def stream(text):
    ids = torch.tensor(list(text.encode()), dtype=torch.uint8)
    return TokenStream(ids=ids, text_bytes=torch.ones_like(ids))


FILLER = stream("import os\n" * 500)


def answers_of(rows, place):
    """The answers of a row and what stands before each, as text."""
    ids, marks = rows.ids[place].tolist(), rows.answers[place].tolist()
    found = []
    for number in range(1, max(marks) + 1):
        places = [i for i, mark in enumerate(marks) if mark == number]
        assert places == list(range(places[0], places[-1] + 1))
        found.append((bytes(ids[: places[0]]).decode(), bytes(ids[i] for i in places).decode()))
    return found


@pytest.mark.parametrize("task", RECALL_TASKS)
@pytest.mark.parametrize("length", [16, 700])
def test_each_answer_stood_before_behind_the_same_words(task, length):
    rows = data.recall_rows(task, ByteTokenizer(), FILLER, count=5, length=length, seed=3)
    assert rows.ids.shape == rows.answers.shape and len(rows) == 5
    for place in range(5):
        found = answers_of(rows, place)
        assert len(found) == {"copy": 1, "associative": 16, "passkey": 1}[task]
        for before, answer in found:
            lead = re.search(r"[a-zA-Z ]+:? $", before)[0]
            assert before.count(lead + answer) == 1
            if length == 700:
                assert len(before) - before.index(lead + answer) > 300
        assert int(rows.lengths[place]) == (700 if length == 700 else rows.ids.shape[1])
        first = int(rows.scored_from[place])
        assert rows.answers[place, first] == 1 and not rows.answers[place, :first].any()


def test_the_same_seed_gives_the_same_texts_and_another_one_others():
    made = [
        data.recall_rows("copy", ByteTokenizer(), FILLER, count=2, length=99, seed=seed).fingerprint
        for seed in (1, 1, 2)
    ]
    assert made[0] == made[1] != made[2]


def test_chosen_rows_keep_their_answers():
    rows = data.recall_rows("associative", ByteTokenizer(), FILLER, count=6, length=300)
    some = rows.take(torch.tensor([4, 1]))
    assert answers_of(some, 0) == answers_of(rows, 4)
    assert answers_of(rows.batch(range(1, 3)).inputs, 0) == answers_of(rows, 1)


def test_an_unknown_task_is_refused():
    with pytest.raises(InputError, match="sorting"):
        data.recall_texts("sorting", 1)
    with pytest.raises(InputError, match="count"):
        data.recall_texts("copy", 0)
