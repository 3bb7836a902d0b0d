import math

import pytest

from ssmith.core.errors import InputError
from ssmith.core.settings import to_mapping
from ssmith.core.times import Times
from ssmith.evaluation.saving import HOURS_PER_MONTH, Load, estimate_saving, hours_per_month

LOAD = Load(price_per_hour=2.0, sequences_per_day=360_000, currency="EUR")


def estimate(before, after, load=LOAD, batch_size=8, least=None):
    section = estimate_saving(
        load,
        per_sequence=Times(medians=(before, after), least=least),
        batch_size=batch_size,
        path="torch, cpu, float32, 2 threads",
    )
    return to_mapping(section)


def test_worked_number():
    # 360 000 · 30 · 0.010 s = 108 000 s = 30 h, at 2 EUR; 20 % less is 12 EUR less.
    section = estimate(0.010, 0.008)
    assert section["hours_per_month"] == {"before": pytest.approx(30), "after": pytest.approx(24)}
    assert section["cost_per_month"] == {"before": pytest.approx(60), "after": pytest.approx(48)}
    assert section["saved_per_month"] == pytest.approx(12)
    assert any("batches of 8 sequences" in item for item in section["assumptions"])
    assert any("float32, 2 threads" in item for item in section["assumptions"])
    assert "no saving" not in section["counted"]


def test_the_smaller_gain_of_typical_and_shortest_time_counts():
    # The medians halve; the least times, which no disturbance touches, fall by a fifth.
    section = estimate(0.020, 0.010, least=(0.010, 0.008))
    assert section["seconds_per_sequence"] == {"before": 0.020, "after": pytest.approx(0.016)}
    assert section["cost_per_month"]["after"] == pytest.approx(0.8 * 120)
    assert section["saved_per_month"] == pytest.approx(0.2 * 120)
    assert "smaller of two measured gains" in section["counted"]


def test_times_that_disagree_save_nothing():
    section = estimate(0.020, 0.010, least=(0.010, 0.011))
    assert section["saved_per_month"] == 0.0
    assert section["hours_per_month"]["before"] == section["hours_per_month"]["after"]
    assert "no saving" in section["counted"]
    assert "do not agree" in section["counted"]


def test_a_change_too_small_to_be_called_one_saves_nothing():
    section = estimate(0.0100, 0.0097)
    assert section["saved_per_month"] == 0.0
    assert "less than 5 %" in section["counted"]


def test_a_slower_model_costs_more():
    section = estimate(0.008, 0.010)
    assert section["saved_per_month"] == pytest.approx(-12)
    assert section["counted"] == "no saving: the model became slower"


def test_equal_times_save_nothing():
    section = estimate(0.008, 0.008)
    assert section["saved_per_month"] == 0.0
    assert "no saving" in section["counted"]


def test_more_than_a_month_needs_several_processes():
    load = Load(price_per_hour=1, sequences_per_day=10_000_000)
    assert hours_per_month(load.sequences_per_day, 0.010) > HOURS_PER_MONTH
    assert any("several processes" in item for item in estimate(0.010, 0.009, load)["assumptions"])


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_impossible_numbers_are_refused(value):
    with pytest.raises(InputError):
        Load(price_per_hour=value, sequences_per_day=1)
    with pytest.raises(InputError):
        Load(price_per_hour=1, sequences_per_day=value)
    with pytest.raises(InputError):
        estimate(0.1, value)
