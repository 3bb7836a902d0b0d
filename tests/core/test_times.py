"""The one rule for what a measured time may claim."""

import math

import pytest

from ssmith.core.errors import InputError
from ssmith.core.times import Times


@pytest.mark.parametrize(
    ("medians", "least", "ratio", "disagree", "changed"),
    [
        ((2.0, 1.0), (1.0, 0.9), 0.9, False, True),
        ((1.0, 0.9), (2.0, 1.0), 0.9, False, True),
        ((1.0, 1.5), (1.0, 1.4), 1.4, False, True),
        ((9.0, 4.0), (1.0, 1.1), 1.0, True, False),
        ((4.0, 9.0), (1.1, 1.0), 1.0, True, False),
        ((9.0, 4.0), (1.0, 0.97), 0.97, False, False),
        ((9.0, 4.0), (1.0, 1.0), 1.0, False, False),
        ((1.0, 1.0), (1.0, 1.0), 1.0, False, False),
        ((9.0, 4.0), None, 4 / 9, False, True),
    ],
)
def test_what_counts_is_what_medians_and_least_times_both_show(
    medians, least, ratio, disagree, changed
):
    times = Times(medians=medians, least=least)
    assert times.ratio == pytest.approx(ratio)
    assert times.disagree is disagree
    assert times.changed is changed


def test_parts_change_as_the_whole():
    part = Times(medians=(2.0, 1.0), least=(1.0, 0.8)).over(4)
    assert part.medians == (0.5, 0.25)
    assert part.least == (0.25, 0.2)
    assert part.ratio == pytest.approx(0.8)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_impossible_times_are_refused(value):
    with pytest.raises(InputError):
        Times(medians=(1.0, value))
    with pytest.raises(InputError):
        Times(medians=(1.0, 1.0), least=(value, 1.0))
