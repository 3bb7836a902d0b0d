import json
import math

import pytest
import torch

from ssmith.core.errors import ArtefactError, DataError, InputError
from ssmith.evaluation.sequential import Sequential, SequentialConfig

STREAMS, ROWS = 1_000, 5_000


def losses(loss, disagreeing, shape, seed=0):
    """Differences of two models' errors on the same row: −1, 0 or 1."""
    draw = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    worse = (disagreeing + loss) / 2
    return (draw < worse).double() - ((draw >= worse) & (draw < disagreeing)).double()


def decided(loss, tolerance, sides="both"):
    """Shares of streams found worse, and within, looked at after every row."""
    config = SequentialConfig(tolerance=tolerance, sides=sides, cells=0)
    test = Sequential(config=config, streams=STREAMS)
    for part in losses(loss, 0.1, (ROWS, STREAMS)).split(500):
        test.observe(part)
    return [float((side * test.decided > 0).double().mean()) for side in (1, -1)]


def by_hand(values, point, alpha=0.05, low=-1.0, high=1.0):
    """The paper's formulas, one row at a time: both capitals, and the closed form."""
    m = (point - low) / (high - low)
    total = squares = bets = betted = penalty = 0.0
    above = below = 1.0
    for t, value in enumerate(values, start=1):
        x = (value - low) / (high - low)
        variance = (0.25 + squares) / t
        bet = math.sqrt(2 * math.log(2 / alpha) / (variance * t * math.log(1 + t)))
        above *= 1 + min(bet, 0.5 / m) * (x - m)
        below *= 1 - min(bet, 0.5 / (1 - m)) * (x - m)
        cut = min(bet, 0.5)
        bets, betted = bets + cut, betted + cut * x
        penalty += (x - (0.5 + total) / t) ** 2 * (-math.log(1 - cut) - cut)
        total += x
        squares += (x - (0.5 + total) / (t + 1)) ** 2
    half = (math.log(2 / alpha) + penalty) / bets
    ends = [low + (high - low) * (betted / bets + side * half) for side in (-1, 1)]
    return above, below, ends


def stream(count=400, loss=0.03, seed=1):
    return losses(loss, 0.2, (count, 1), seed)[:, 0].tolist()


def test_bets_and_closed_form_are_the_papers():
    values = stream()
    test = Sequential(config=SequentialConfig(tolerance=0.05, cells=3))
    test.observe(values)
    for place, point in enumerate(test.config.means().tolist()):
        if 0 < point < 1:
            above, below, ends = by_hand(values, 2 * point - 1)
            assert float(test.capitals.above[place, 0]) == pytest.approx(math.log(above))
            assert float(test.capitals.below[place, 0]) == pytest.approx(math.log(below))
            assert test.bernstein == pytest.approx(ends)
    assert test.mean == pytest.approx(sum(values) / len(values))
    assert test.evidence == pytest.approx(by_hand(values, 0.05)[0])


def test_equal_models_are_seldom_told_apart_however_often_one_looks():
    # At the border itself both sides are false alarms.
    assert sum(decided(loss=0.0, tolerance=0.0)) <= 0.05
    assert decided(loss=0.0, tolerance=0.02)[0] <= 0.05
    assert decided(loss=0.0, tolerance=0.0, sides="above")[0] <= 0.05


def test_a_loss_of_twice_the_tolerance_is_found_in_most_streams():
    worse, within = decided(loss=0.04, tolerance=0.02)
    assert worse > 0.7
    assert within == 0
    assert decided(loss=0.04, tolerance=0.02, sides="above")[0] > worse


def test_equal_models_are_accepted_in_most_streams():
    assert decided(loss=0.0, tolerance=0.02)[1] > 0.6


def test_intervals_cover_the_mean_at_all_times_together():
    test = Sequential(config=SequentialConfig(tolerance=0.0, cells=50), streams=200)
    test.observe(losses(0.03, 0.1, (1000, 200), seed=4))
    low, high = (2 * end - 1 for end in test.ends)
    assert float(((low <= 0.03) & (high >= 0.03)).double().mean()) >= 0.95
    assert float((high - low).mean()) < 0.12


def test_more_cells_narrow_the_interval_and_never_move_the_decision():
    values = stream(3000, loss=0.1)
    widths, decisions = [], []
    for cells in (20, 200):
        test = Sequential(config=SequentialConfig(tolerance=0.03, cells=cells))
        test.observe(values)
        widths.append(test.interval[1] - test.interval[0])
        decisions.append((test.decision, test.decided_at))
    assert widths[0] > widths[1]
    assert decisions[0] == decisions[1] == ("worse", test.decided_at)
    assert test.interval[0] > 0.03


def test_a_state_on_disk_goes_on_as_if_it_had_not_stopped():
    values, config = stream(700), SequentialConfig(tolerance=0.02, budget=650)
    whole = Sequential(config=config)
    whole.observe(values)
    parts = Sequential(config=config)
    for start in range(0, 700, 37):
        parts = Sequential.from_dict(json.loads(json.dumps(parts.as_dict())))
        parts.observe(values[start : start + 37])
    assert parts.count == whole.count == 700
    assert parts.interval == pytest.approx(whole.interval)
    assert parts.bernstein == pytest.approx(whole.bernstein)
    assert parts.evidence == pytest.approx(whole.evidence)
    assert (parts.decision, parts.decided_at) == (whole.decision, whole.decided_at)


def test_decisions_end_with_the_budget_and_stay():
    exhausted = Sequential(config=SequentialConfig(tolerance=0.02, budget=10))
    exhausted.observe([0.0] * 9)
    assert exhausted.decision == "open"
    # What would decide it comes after the budget.
    exhausted.observe([0.0, *[1.0] * 200])
    assert (exhausted.decision, exhausted.decided_at) == ("exhausted", None)
    worse = Sequential(config=SequentialConfig(tolerance=0.02))
    worse.observe([1.0] * 50)
    at = worse.decided_at
    assert worse.decision == "worse"
    assert at is not None and 5 < at < 50
    worse.observe([-1.0] * 500)
    assert (worse.decision, worse.decided_at) == ("worse", at)


def test_other_bounds_are_other_units():
    values = stream(500)
    unit = Sequential(config=SequentialConfig(tolerance=0.05))
    unit.observe(values)
    degrees = Sequential(config=SequentialConfig(tolerance=12.5, low=-40, high=60))
    degrees.observe([10 + 50 * value for value in values])
    assert degrees.interval == pytest.approx([10 + 50 * end for end in unit.interval])
    assert degrees.mean == pytest.approx(10 + 50 * unit.mean)


def test_before_the_first_observation_nothing_is_known():
    test = Sequential(config=SequentialConfig(tolerance=0.02))
    test.observe([])
    assert test.interval == test.bernstein == (-1, 1)
    assert math.isnan(test.mean)
    assert test.evidence == 1


@pytest.mark.parametrize("value", [1.5, -1.01, math.nan, math.inf])
def test_what_is_out_of_bounds_is_refused_whole(value):
    test = Sequential(config=SequentialConfig(tolerance=0.02))
    with pytest.raises(DataError, match="an observation is"):
        test.observe([0.5, value])
    assert test.count == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"tolerance": 1.5},
        {"tolerance": math.nan},
        {"tolerance": 0.1, "low": 1.0, "high": 0.0},
        {"tolerance": 0.1, "level": 1.0},
        {"tolerance": 0.1, "budget": 0},
        {"tolerance": 0.1, "sides": "left"},
        {"tolerance": 0.1, "cells": -1},
    ],
)
def test_impossible_questions_are_refused(settings):
    with pytest.raises(InputError):
        SequentialConfig(**settings)


def test_a_foreign_state_is_refused():
    state = Sequential(config=SequentialConfig(tolerance=0.02, cells=3)).as_dict()
    for change in (
        {"version": 2}, {"above": [0.0]}, {"count": "many"}, {"config": {"tolerance": 0, "x": 1}},
    ):  # fmt: skip
        with pytest.raises(ArtefactError):
            Sequential.from_dict({**state, **change})
    with pytest.raises(ArtefactError):
        Sequential.from_dict({"version": 1})
    several = Sequential(config=SequentialConfig(tolerance=0.02), streams=2)
    with pytest.raises(InputError):
        several.as_dict()
