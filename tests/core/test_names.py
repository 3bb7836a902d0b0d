"""Names that are none: all are listed, and those that may be meant are suggested."""

import pytest

from ssmith.core.checks import check_choice
from ssmith.core.errors import InputError
from ssmith.core.names import meant, unknown_name

KNOWN = ("state-offset-h", "state-offset-y", "lora", "dora")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("state-offset", "did you mean 'state-offset-h' or 'state-offset-y'?"),
        ("State-Offset-H", "did you mean 'state-offset-h'?"),
        ("loar", "did you mean 'lora'?"),
        ("", ""),
        ("quantise", ""),
    ],
)
def test_what_may_be_meant(name, asked):
    assert meant(name, KNOWN) == asked


def test_three_names_are_joined_as_one_would_say_them():
    assert meant("a", ("ab", "ac", "ad"), prefix="x:") == "did you mean x:ab, x:ac or x:ad?"


def test_the_error_lists_all_names_and_asks():
    error = unknown_name("method 'dor'", "dor", KNOWN)
    assert (error.allowed, error.next_step) == (", ".join(KNOWN), "did you mean 'dora'?")
    assert unknown_name("method '?'", "?", KNOWN).next_step == "choose one of these"


def test_a_choice_asks_as_well():
    with pytest.raises(InputError, match=r"split is 'tst'; .*did you mean 'test'\?$"):
        check_choice("split", "tst", ("train", "test"))
