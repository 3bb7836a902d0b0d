"""Bounds by hand, and the coverage they promise, by simulation."""

import numpy as np
import pytest

from ssmith.core.errors import DataError
from ssmith.evaluation.conformal import (
    bound,
    for_false_alarms,
    for_recall,
    half_widths,
    least_rows,
)


def test_a_bound_by_hand():
    scores = np.array([3.0, 1.0, 2.0, 5.0, 4.0, 7.0, 6.0, 9.0, 8.0])
    # (9 + 1)·0.9 = 9: the largest of nine; of 0.85 too, as ranks are whole.
    assert bound(scores, 0.9) == 9
    assert bound(scores, 0.8) == 8
    assert bound(scores, 0.75) == 8
    assert bound(scores[:8], 0.9) == np.inf
    assert (least_rows(0.9), least_rows(0.95), least_rows(0.5)) == (9, 19, 1)


def test_coverage_is_what_was_promised():
    """Over draws of calibration and new rows the coverage is level to level + 1/(n + 1)."""
    draw = np.random.default_rng(0)
    for count, level in ((19, 0.9), (50, 0.8)):
        rounds = 4000
        scores = np.sort(draw.standard_cauchy((rounds, count)) ** 2)
        new = draw.standard_cauchy(rounds) ** 2
        covered = np.mean([one <= bound(row, level) for row, one in zip(scores, new, strict=True)])
        spread = 3.5 * np.sqrt(level * (1 - level) / rounds)
        assert level - spread < covered < level + 1 / (count + 1) + spread


def test_half_widths_are_of_each_output():
    targets = np.zeros((9, 2))
    predicted = np.stack([np.arange(1, 10), -10 * np.arange(1, 10)], axis=1).astype(float)
    assert half_widths(predicted, targets, 0.9) == (9, 90)
    with pytest.raises(DataError, match="at least 9"):
        half_widths(predicted[:8], targets[:8], 0.9)


def test_thresholds_keep_recall_and_false_alarms():
    draw = np.random.default_rng(1)
    rounds, found, alarms = 2000, 0.0, 0.0
    for _ in range(rounds):
        is_class = np.repeat([True, False], [40, 60])
        shares = np.where(is_class, draw.beta(4, 2, 100), draw.beta(2, 4, 100))
        found += draw.beta(4, 2) >= for_recall(shares, is_class, 0.9)
        alarms += draw.beta(2, 4) >= for_false_alarms(shares, is_class, 0.1)
    assert 0.9 - 0.025 < found / rounds < 0.9 + 1 / 41 + 0.025
    assert 0.1 - 1 / 61 - 0.025 < alarms / rounds < 0.1 + 0.025


def test_ties_at_the_threshold_are_decided_for_the_promise():
    shares, is_class = np.full(40, 0.5), np.repeat([True, False], 20)
    assert for_recall(shares, is_class, 0.9) <= 0.5
    assert for_false_alarms(shares, is_class, 0.1) > 0.5


def test_too_few_rows_are_refused_with_their_number():
    shares, is_class = np.array([0.2, 0.8]), np.array([False, True])
    with pytest.raises(DataError, match="at least 19"):
        for_recall(shares, is_class, 0.95)
    with pytest.raises(DataError, match="at least 99"):
        for_false_alarms(shares, is_class, 0.01)
