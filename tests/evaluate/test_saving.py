import math

import pytest

from ssmith.core.errors import InputError
from ssmith.evaluate.saving import HOURS_PER_MONTH, Load, estimate_saving, hours_per_month

LOAD = Load(price_per_hour=2.0, sequences_per_day=360_000, currency="EUR")


def estimate(before, after, load=LOAD, batch_size=8):
    return estimate_saving(
        load,
        seconds_per_sequence=(before, after),
        batch_size=batch_size,
        path="torch, cpu, float32, 2 threads",
    )


def test_worked_number():
    # 360 000 · 30 · 0.010 s = 108 000 s = 30 h, at 2 EUR; 20 % less is 12 EUR less.
    section = estimate(0.010, 0.008)
    assert section["hours_per_month"] == {"before": pytest.approx(30), "after": pytest.approx(24)}
    assert section["cost_per_month"] == {"before": pytest.approx(60), "after": pytest.approx(48)}
    assert section["saved_per_month"] == pytest.approx(12)
    assert any("batches of 8 sequences" in item for item in section["assumptions"])
    assert any("float32, 2 threads" in item for item in section["assumptions"])
    assert not any("nothing is saved" in item for item in section["assumptions"])


def test_a_slower_model_costs_more():
    section = estimate(0.008, 0.010)
    assert section["saved_per_month"] == pytest.approx(-12)
    assert any("nothing is saved" in item for item in section["assumptions"])


def test_equal_times_save_nothing():
    section = estimate(0.008, 0.008)
    assert section["saved_per_month"] == 0.0
    assert any("nothing is saved" in item for item in section["assumptions"])


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
