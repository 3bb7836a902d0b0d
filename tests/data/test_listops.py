from __future__ import annotations

import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmith.core.errors import InputError
from ssmith.data.digest import sequence_keys
from ssmith.data.listops import (
    DIGITS,
    OPERATORS,
    TOKENS,
    ListOps,
    evaluate_listops,
    generate_listops,
)

SMALL = ListOps(
    counts={"train": 200, "validation": 50, "selection": 50, "test": 50},
    max_depth=4,
    max_arguments=5,
    min_length=5,
    max_length=40,
)


def python_value(tokens: list[str]) -> int:
    """Let Python's own parser read the expression: an evaluator that shares no code."""
    names = {"[MIN": "MIN(", "[MAX": "MAX(", "[MED": "MED(", "[SM": "SM(", "]": ")"}
    text = "".join(
        names.get(token, token) + ("" if token in OPERATORS else ",") for token in tokens
    )
    scope = {
        "MIN": lambda *a: min(a),
        "MAX": lambda *a: max(a),
        "MED": lambda *a: int(statistics.median(a)),
        "SM": lambda *a: sum(a) % 10,
    }
    return eval(text, {"__builtins__": {}}, scope)[0]


def depth_and_arguments(tokens: list[str]) -> tuple[int, list[int]]:
    deepest, open_lists, counts = 0, [0], []
    for token in tokens:
        if token == "]":
            counts.append(open_lists.pop())
            continue
        open_lists[-1] += 1
        if token in OPERATORS:
            open_lists.append(0)
            deepest = max(deepest, len(open_lists) - 1)
    return deepest, counts


def expressions(pool) -> list[list[str]]:
    rows = zip(pool.x.tolist(), pool.lengths.tolist(), strict=True)
    return [[TOKENS[i] for i in row[:length]] for row, length in rows]


@pytest.fixture(scope="module")
def pool():
    return generate_listops(SMALL, seed=0)


def test_values_agree_with_python(pool):
    for tokens, value in zip(expressions(pool), pool.y.tolist(), strict=True):
        assert value == python_value(tokens)


def test_worked_example():
    text = "[MAX 2 9 [MIN 4 7 ] 0 ]"
    assert evaluate_listops(text.split()) == 9
    assert evaluate_listops(["[MED", "1", "2", "3", "4", "]"]) == 2
    assert evaluate_listops(["[MED", "9", "0", "5", "]"]) == 5
    assert evaluate_listops(["[SM", "9", "8", "[MED", "1", "4", "]", "]"]) == 9
    assert evaluate_listops(["7"]) == 7


def trees():
    digit = st.sampled_from(DIGITS).map(lambda token: [token])

    def node(children):
        return st.tuples(
            st.sampled_from(OPERATORS), st.lists(children, min_size=1, max_size=4)
        ).map(lambda pair: [pair[0], *[t for child in pair[1] for t in child], "]"])

    return st.recursive(digit, node, max_leaves=25)


@settings(max_examples=100, deadline=None)
@given(trees())
def test_evaluator_agrees_with_python_on_any_tree(tokens):
    assert evaluate_listops(tokens) == python_value(tokens)


@pytest.mark.parametrize("text", ["[MAX 1 2", "1 2", "]", "[MAX ]", "[ADD 1 2 ]", "[MAX 1 ] ]", ""])
def test_incomplete_expressions_are_refused(text):
    with pytest.raises(InputError):
        evaluate_listops(text.split())


def test_limits_are_kept(pool):
    for tokens in expressions(pool):
        depth, arguments = depth_and_arguments(tokens)
        assert 5 <= len(tokens) <= 40
        assert 1 <= depth <= 4
        assert min(arguments) >= 2 and max(arguments) <= 5
    assert max(depth_and_arguments(tokens)[0] for tokens in expressions(pool)) == 4
    seen = {token for tokens in expressions(pool) for token in tokens}
    assert seen == set(TOKENS) - {"<pad>"}


def test_no_expression_twice(pool):
    keys = sequence_keys(pool.sequences())
    assert len(set(keys)) == len(keys) == 350


def test_determined_by_its_seed(pool):
    again = generate_listops(SMALL, seed=0)
    assert torch.equal(again.x, pool.x)
    assert torch.equal(again.y, pool.y)
    other = generate_listops(SMALL, seed=1)
    assert not set(sequence_keys(other.sequences())) >= set(sequence_keys(pool.sequences()))


def test_impossible_counts_are_refused():
    tight = ListOps(
        counts={"train": 10_000}, max_depth=1, max_arguments=2, min_length=4, max_length=4
    )
    with pytest.raises(InputError, match="different expressions"):
        generate_listops(tight, seed=0)


@pytest.mark.parametrize(
    "settings_",
    [
        {"counts": {"train": 0}},
        {"counts": {}},
        {"max_depth": 0},
        {"max_arguments": 1},
        {"min_length": 3},
        {"min_length": 50, "max_length": 40},
    ],
)
def test_settings_are_checked(settings_):
    with pytest.raises(InputError, match="allowed"):
        ListOps(**settings_)
