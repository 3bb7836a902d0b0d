"""Numbers as people read them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmith.core.times import Times
from ssmith.report import numbers
from ssmith.report.look import printable, shorten


@pytest.mark.parametrize(
    ("render", "value", "said"),
    [
        (numbers.percent, 0.983, "98.3 %"),
        (numbers.percent, -0.05, "−5.0 %"),
        (numbers.ratio, 1.4, "1.4×"),
        (numbers.ratio, 12.3, "12×"),
        (numbers.size, 312_004, "312 KB"),
        (numbers.size, 12, "12 bytes"),
        (numbers.size, 8_912_896, "8.91 MB"),
        (numbers.seconds, 0.0021, "2.1 ms"),
        (numbers.seconds, 0.00000072, "720 ns"),
        (numbers.seconds, 61.0, "61 s"),
        (numbers.count, 1234567, "1\u202f234\u202f567"),
        (numbers.p_value, 0.0002, "p < 0.001"),
        (numbers.p_value, 0.5, "p = 0.5"),
        (numbers.significant, 1.1e-15, "1.1e−15"),
        (numbers.significant, 0, "0"),
        (numbers.quality_format("balanced accuracy"), 0.5, "50.0 %"),
        (numbers.quality_format("RMSE"), 0.23141, "0.2314"),
        (numbers.difference_format("accuracy"), -0.0028, "−0.3 points"),
        (numbers.difference_format("accuracy"), 0.00004, "0.0 points"),
        (numbers.difference_format("MAE"), 0.0304, "+0.0304"),
    ],
)
def test_rendering(render, value, said):
    assert render(value).replace("\u00a0", " ") == said


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (2.0, 1.0, "2.0× faster"),
        (1.0, 2.0, "2.0× slower"),
        (1.0, 0.97, "no gain (1.0×)"),
    ],
)
def test_faster(before, after, said):
    assert numbers.faster(Times(medians=(before, after))) == said


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (100, 50, "50.0 % smaller"),
        (100, 150, "50.0 % larger"),
        (100, 98, "2 % smaller, no gain"),
        (1000, 1014, "1.4 % larger, no gain"),
        (1000, 991, "0.9 % smaller, no gain"),
        (100, 100, "the same"),
        (0, 1, "no ratio"),
    ],
)
def test_smaller(before, after, said):
    assert numbers.smaller(before, after).replace("\u00a0", " ") == said


@settings(deadline=None, max_examples=200)
@given(st.floats(min_value=1e-12, max_value=1e12))
def test_rounding_keeps_three_digits(value):
    for sign in (1, -1):
        read = float(numbers.significant(sign * value).replace("−", "-"))
        assert math.isclose(read, sign * value, rel_tol=5.1e-3)


@settings(deadline=None, max_examples=100)
@given(st.text(), st.integers(min_value=3, max_value=20))
def test_shortened_text_fits_and_is_printable(value, limit):
    assert len(shorten(value, limit)) <= limit
    printable(value).encode("utf-8")
