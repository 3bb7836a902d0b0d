"""Numbers in sentences."""

import pytest

from ssmith.core.words import number_of, span


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 windows"), (1, "1 window"), (2, "2 windows"), (2048, "2,048 windows")],
)
def test_a_noun_agrees_with_its_number(number, said):
    assert number_of(number, "window") == said


def test_a_range_of_one_number_is_that_number():
    assert span(128, 128) == "128"
    assert span(20, 128) == "20 to 128"
