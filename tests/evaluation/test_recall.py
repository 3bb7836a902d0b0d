"""How much a model recalls, of answers that it is known to give or not to give."""

import copy
from dataclasses import replace

import pytest
import torch

from ssmith.core.text import TokenStream
from ssmith.data import ByteTokenizer, recall_rows
from ssmith.evaluation import compare
from ssmith.evaluation.recall import RECALL_TASK, compare_recall, recall_of, recall_section
from ssmith.families.hf import MambaSize, new_mamba

pytest.importorskip("transformers")
FILLER = TokenStream(ids=torch.full((400,), ord("x"), dtype=torch.uint8))


@pytest.fixture(scope="module")
def model():
    return new_mamba(MambaSize(width=16, layers=1, states=4), seed=0).eval()


@torch.no_grad()
def known(model, task, wrong=(), count=6):
    """Rows whose answers are what the model writes, but the last token of those that are named."""
    rows = recall_rows(task, ByteTokenizer(), FILLER, count=count, length=80, seed=1)
    ids = rows.ids.clone()
    for place in range(1, ids.shape[1]):
        asked = rows.answers[:, place] > 0
        if not asked.any():
            continue
        ids[asked, place] = model(ids[:, :place]).logits[asked, -1].argmax(-1)
        for row, mark in wrong:
            last = int((rows.answers[row] == mark).nonzero()[-1])
            if last == place:
                ids[row, place] = (ids[row, place] + 1) % 256
    return replace(rows, ids=ids)


def test_one_answer_per_text_is_right_or_wrong(model):
    rows = {"copy": known(model, "copy", {(0, 1), (3, 1)})}
    found = recall_of(model, rows, batch_size=4)["copy"]
    assert found.value == pytest.approx(4 / 6)
    assert (found.count, found.method) == (6, "Wilson")


def test_of_many_answers_the_share_counts(model):
    rows = {"associative": known(model, "associative", {(0, 1), (0, 2), (5, 16)})}
    found = recall_of(model, rows, batch_size=4)["associative"]
    assert found.value == pytest.approx(1 - 3 / (6 * 16))
    assert found.weight == 6 * 16


def test_two_models_are_compared_in_pairs(model):
    rows = known(model, "passkey")
    # Its largest score is the other's smallest.
    other = copy.deepcopy(model)
    other.backbone.norm_f.weight.data.neg_()
    found = compare_recall(model, other, {"passkey": rows}, batch_size=3)
    plain = compare(model, other, rows, RECALL_TASK)
    assert found["passkey"].difference.value == plain.difference.value == -1.0
    (row,) = recall_section(found, 80)
    assert (row.task, row.length, row.count) == ("passkey", 80, 6)
    assert (row.before, row.after) == (1.0, 0.0)
