"""Seeds that do not meet, budgets that count exactly, errors with three parts."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.unchecked import build, unchecked
from ssmith.core import errors
from ssmith.core.budget import Budget, Target
from ssmith.core.checks import check_choice, check_flag, check_integer, check_number
from ssmith.core.errors import InputError, MissingExtraError, SsmithError
from ssmith.core.optional import require
from ssmith.core.pattern import Pattern
from ssmith.core.seeds import derive, generator, seeded


def test_a_seed_is_a_fixed_number():
    # Pinned: a receipt's seed must mean the same in every version.
    assert derive(0, "split", "digits") == derive(0, "split", "digits") == 6425933194532392412
    assert 0 <= derive(2**200) < 2**63


def test_no_two_purposes_share_a_stream():
    seeds = {
        derive(seed, *purpose)
        for seed in range(20)
        for purpose in [(), ("order",), ("order", 0), ("order", 1), ("dropout", 0), ("order", 11)]
    }
    assert len(seeds) == 20 * 6
    assert derive(1, "a", "b") != derive(1, "ab")
    assert derive(1, 12) != derive(11, 2)


@pytest.mark.parametrize("seed", [-1, 1.0, True, "0", None])
def test_a_seed_is_a_natural_number(seed):
    with pytest.raises(InputError, match="seed is"):
        unchecked(derive)(seed)


def test_generators_are_independent_of_the_order_of_use():
    first = torch.rand(3, generator=generator(5, "a"))
    torch.rand(100, generator=generator(5, "b"))
    torch.rand(100)
    assert torch.equal(torch.rand(3, generator=generator(5, "a")), first)


def test_a_seeded_block_restores_the_global_stream():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(7, "x"):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(7, "x"):
        assert torch.equal(torch.rand(2), inside)
    torch.manual_seed(3)
    with pytest.raises(RuntimeError, match="stop"), seeded(7):
        raise RuntimeError("stop")
    assert torch.equal(torch.rand(2), expected)


@given(total=st.integers(1, 5000), percent=st.integers(0, 99))
def test_a_share_keeps_its_floor(total, percent):
    exact = total * Fraction(100 - percent, 100)
    gone = Budget("state", percent / 100).removed_of(total)
    assert total - gone == max(exact.__floor__(), 1)


@pytest.mark.parametrize(
    ("share", "total", "kept"),
    [(0.0, 7, 7), (0.33, 12, 8), (0.9, 100, 10), (0.99, 3, 1), (0.5, 0, 0), (0.3, 10, 7)],
)
def test_budgets_worked_by_hand(share, total, kept):
    assert total - Budget("state", share).removed_of(total) == kept


def test_a_count_is_what_goes():
    budget = Budget("state", 8)
    assert budget.removed_of(20) == 8
    assert budget.removed_of(8) == 8
    with pytest.raises(InputError, match=r"8 of 7 state are to go; allowed: at most 7"):
        budget.removed_of(7)
    with pytest.raises(InputError, match="allowed: a share in"):
        _ = budget.share


@pytest.mark.parametrize(
    "wrong",
    [
        {"sparsity": 1.0},
        {"sparsity": -0.1},
        {"sparsity": -3},
        {"sparsity": 1.5},
        {"sparsity": float("nan")},
        {"sparsity": "half"},
        {"sparsity": "4:2"},
        {"sparsity": "0:2"},
        {"sparsity": True},
        {"sparsity": None},
        {"min_per_layer": -1},
        {"min_per_layer": 1.0},
        {"min_per_layer": True},
        {"ties": "drop"},
        {"scope": "everywhere"},
        {"compensate": "E"},
        {"compensate": ""},
        {"compensate": "CC"},
        {"seed": -1},
    ],
    ids=str,
)
def test_a_budget_outside_its_domain(wrong):
    with pytest.raises(InputError):
        build(Budget, **{"unit": "state", "sparsity": 0.5, **wrong})


def test_a_budget_is_json():
    assert Budget("state", 0.5, min_per_layer=2, compensate="full").as_dict() == {
        "unit": "state",
        "sparsity": 0.5,
        "method": "auto",
        "settings": {},
        "scope": "auto",
        "targets": [],
        "min_per_layer": 2,
        "ties": "exact",
        "compensate": ["B", "C", "D"],
        "semantics": None,
        "seed": 0,
    }
    assert Budget("weight", "2:4").as_dict()["sparsity"] == "2:4"
    target = Target(quantity="parameters", amount=0.5)
    assert Budget("state", target).as_dict()["sparsity"] == "parameters 0.5"


def test_amounts_and_terms_have_several_spellings():
    assert Budget("entry", "2:4") == Budget("entry", Pattern(keep=2, of=4))
    assert Budget("entry", "2:4").share == 0.5
    assert Budget("state", 0) == Budget("state", 0.0)
    assert Budget("state", 0.5, compensate="D+h").terms == {"D", "h"}
    assert Budget("state", 0.5, compensate=("C", "B")).compensate == ("B", "C")
    assert Budget("state", 0.5, compensate="readout").terms == {"C"}
    assert Budget("state", 0.5, compensate="none").terms == frozenset()


def test_targets_are_names_with_wildcards():
    assert Budget("state", 0.5).wants("anything")
    budget = Budget("weight", 0.5, targets=("layers.1.*", "out_proj"))
    assert budget.wants("layers.1.mixer.in_proj")
    assert budget.wants("layers.0.mixer.out_proj")
    assert not budget.wants("layers.0.mixer.in_proj")


def test_a_target_is_a_share_of_the_dense_model_or_a_number():
    assert Target(quantity="parameters", amount=0.7).of(1000) == 700
    assert Target(quantity="bytes", amount=5e6).of(1000) == 5e6
    for amount in (0, -1, math.inf, math.nan, True, "half"):
        with pytest.raises(InputError, match="target of bytes"):
            build(Target, quantity="bytes", amount=amount)
    with pytest.raises(InputError, match="'size'"):
        build(Target, quantity="size", amount=0.5)


def test_an_error_has_three_parts_in_one_line():
    error = InputError("width is 0.", allowed="an integer ≥ 1.", next_step="give another")
    assert str(error) == "width is 0; allowed: an integer ≥ 1; next: give another."
    assert (error.what, error.allowed) == ("width is 0.", "an integer ≥ 1.")
    assert str(InputError("nothing more to say")) == "nothing more to say."


@pytest.mark.parametrize(
    ("kind", "builtin", "code"),
    [
        ("InputError", ValueError, 2),
        ("DataError", ValueError, 2),
        ("ModelError", ValueError, 2),
        ("PlanError", ValueError, 2),
        ("ArtefactError", OSError, 2),
        ("OutputExistsError", FileExistsError, 2),
        ("UnsupportedError", NotImplementedError, 2),
        ("NumericalError", ArithmeticError, 2),
        ("EndpointError", ConnectionError, 2),
        ("MissingExtraError", ImportError, 3),
    ],
)
def test_each_error_is_also_a_builtin(kind, builtin, code):
    error = getattr(errors, kind)("what", allowed="this", next_step="that")
    assert isinstance(error, SsmithError)
    assert isinstance(error, builtin)
    assert error.exit_code == code
    assert str(error) == "what; allowed: this; next: that."


def test_a_missing_package_names_its_extra():
    with pytest.raises(MissingExtraError, match=r"'no_such_package'.*pip install 'ssmith\[hub\]'"):
        require("no_such_package.inner", extra="hub", purpose="loading from a hub")
    assert require("json.decoder", extra="x", purpose="x").__name__ == "json.decoder"


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "1", None])
def test_check_integer(value):
    check_integer("n", 1, at_least=1)
    with pytest.raises(InputError, match=r"n is .*an integer ≥ 1"):
        check_integer("n", value, at_least=1)


@pytest.mark.parametrize("value", [0, -1.0, 2, 2.5, True, "1", None, float("nan"), 1j])
def test_check_number(value):
    for good in (1, 0.5, 1.999):
        check_number("x", good, above=0, below=2)
    check_number("x", 0, at_least=0)
    with pytest.raises(InputError, match=r"x is .*a finite number > 0 and < 2"):
        check_number("x", value, above=0, below=2)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_check_number_wants_finite_ones(value):
    with pytest.raises(InputError, match=r"allowed: a finite number\.$"):
        check_number("x", value)


def test_check_choice_and_flag():
    check_choice("kind", "a", ("a", "b"))
    check_flag("on", False)
    for value in ("c", None, ["a"]):
        with pytest.raises(InputError, match="allowed: 'a', 'b'"):
            check_choice("kind", value, ("a", "b"))
    for value in (0, 1, None, "yes"):
        with pytest.raises(InputError, match="true or false"):
            check_flag("on", value)
