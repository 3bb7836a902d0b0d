"""What a constant answer reaches, by brute force; copies of rows are seen."""

import math

import pytest
import torch

from ssmith.core.sequences import Sequences
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.metrics import (
    ACCURACY,
    CROSS_ENTROPY,
    MEAN_ABSOLUTE_ERROR,
    PERPLEXITY,
    RMSE,
)
from ssmith.evaluation.naive import few_units, naive_of, units_of


def sequences(y, x=None):
    x = torch.randn(len(y), 5, 2, generator=torch.Generator().manual_seed(0)) if x is None else x
    return Sequences(x=x, lengths=torch.full((len(y),), x.shape[1]), y=y)


def test_the_most_frequent_class_and_the_frequencies():
    rows = sequences(torch.tensor([0, 0, 0, 2]))
    assert naive_of(ACCURACY, rows).value == 0.75
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert naive_of(CROSS_ENTROPY, rows).value == pytest.approx(expected)
    assert naive_of(ACCURACY, rows).beats(ACCURACY, 0.75)
    assert not naive_of(ACCURACY, rows).beats(ACCURACY, 0.76)
    assert naive_of(CROSS_ENTROPY, rows).beats(CROSS_ENTROPY, expected + 0.1)


@pytest.mark.parametrize("metric", [MEAN_ABSOLUTE_ERROR, RMSE])
def test_the_best_constant_target_is_found_by_no_grid(metric):
    y = torch.tensor([[0.0], [1.0], [1.5], [7.0]])
    found = naive_of(metric, sequences(y))
    power = 2 if metric is RMSE else 1
    grid = [
        float((y - item).abs().pow(power).mean()) ** (1 / power)
        for item in torch.arange(0, 8, 0.01)
    ]
    assert found.value == pytest.approx(min(grid), abs=1e-3)
    assert found.answer.endswith("mean target" if metric is RMSE else "median target")


def test_the_last_value_is_the_answer_to_a_walk():
    x = torch.arange(12.0).reshape(4, 3, 1) * 5
    found = naive_of(MEAN_ABSOLUTE_ERROR, sequences(x[:, -1] + 0.25, x))
    assert found.value == pytest.approx(0.25)
    assert found.answer == "always giving the last value of the series"


def windows(ids):
    return TokenWindows(
        ids=ids,
        lengths=torch.full((len(ids),), ids.shape[1]),
        scored_from=torch.ones(len(ids), dtype=torch.int64),
        text_bytes=None,
        vocabulary=9,
        name="some",
        source="",
        sha256="",
    )


def test_a_text_is_guessed_by_the_frequencies_of_what_is_predicted():
    # The first token of each row is predicted from nothing, and does not count.
    found = naive_of(PERPLEXITY, windows(torch.tensor([[8, 1, 1, 2], [8, 1, 2, 2]])))
    assert found.value == pytest.approx(2.0)


def test_copies_share_a_unit():
    ids = torch.tensor([[1, 2, 3], [4, 5, 6], [1, 2, 3]])
    assert units_of(windows(ids)).tolist() == [0, 1, 0]
    x = torch.zeros(3, 5, 2)
    assert units_of(sequences(torch.tensor([0, 1, 0]), x)).tolist() == [0, 1, 0]


def test_few_rows_are_a_finding():
    assert few_units(20, 20, "sequence") is None
    assert "7 sequences" in few_units(7, 1, "sequence").message
    assert "too few for an interval" in few_units(7, 1, "sequence").message
    assert "19 different windows" in few_units(19, 19, "window").message
