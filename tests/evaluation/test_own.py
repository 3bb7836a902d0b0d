import numpy as np
import pytest
import torch

from ssmith.core.errors import DataError, InputError
from ssmith.evaluation.own import OwnMetric, compare_own, own_metric

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass
import numpy as np

@dataclass
class Weights:
    right: float = 2.0

def money(outputs, y):
    return Weights().right * float((outputs.argmax(1) == y).mean())

def sort_in_place(outputs, y):
    outputs.sort(axis=0)
    return outputs[0, 0]

def text(outputs, y):
    return "good"

def flag(outputs, y):
    return True

def undefined(outputs, y):
    return np.nan

def broken(outputs, y):
    raise KeyError("column")

number = 3
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def answers():
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(2, (40,), generator=draw)
    right = torch.nn.functional.one_hot(y, 2).float()
    wrong = right.clone()
    wrong[:10] = 1 - wrong[:10]
    return right, wrong, y


def test_from_a_file(source, answers):
    right, wrong, y = answers
    metric = own_metric(f"{source}:money")
    assert metric(right, y) == 2.0
    assert metric(wrong, y) == 1.5


def test_from_a_package():
    metric = own_metric("numpy:dot")
    assert metric(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])) == 11.0


def test_the_function_gets_a_copy(source):
    outputs = torch.tensor([[2.0], [1.0]])
    assert own_metric(f"{source}:sort_in_place")(outputs, torch.zeros(2)) == 1.0
    assert outputs.tolist() == [[2.0], [1.0]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "returned str"),
        ("flag", "returned bool"),
        ("undefined", "returned nan"),
        ("broken", "KeyError: 'column'"),
    ],
)
def test_bad_answers_are_named(source, answers, name, message):
    right, _, y = answers
    with pytest.raises(InputError, match=message):
        own_metric(f"{source}:{name}")(right, y)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "file.py:function"),
        ("no_such_package_here:f", "cannot import"),
        ("absent.py:f", "no file"),
        ("numpy:no_such_name", "has no function"),
        ("math:pi", "has no function 'pi'"),
    ],
)
def test_what_cannot_be_found_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        own_metric(text)


def test_a_file_that_fails_or_exits_is_refused(tmp_path, source):
    for content in ("1 / 0", "raise SystemExit(3)"):
        path = tmp_path / "bad.py"
        path.write_text(content)
        with pytest.raises(InputError, match="cannot import"):
            own_metric(f"{path}:f")
    with pytest.raises(InputError, match="money"):
        own_metric(f"{source}:number")


def test_compared_in_pairs(source, answers):
    right, wrong, y = answers
    metric = own_metric(f"{source}:money")
    found = compare_own(metric, right, wrong, y, seed=0, resamples=400)
    assert found.loss == pytest.approx(0.5)
    # A mean of 40 outcomes of ± 2: standard error 2·√(0.25·0.75/40) = 0.137.
    assert found.low == pytest.approx(-0.5 - 1.96 * 0.137, abs=0.08)
    assert found.high == pytest.approx(-0.5 + 1.96 * 0.137, abs=0.08)
    back = compare_own(metric, wrong, right, y, seed=0, resamples=400)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))
    difference = found.section().difference
    assert difference.value == pytest.approx(-0.5)
    assert difference.interval == "paired bootstrap, 400 resamples"


def test_lower_may_be_better(answers):
    right, wrong, y = answers
    error = OwnMetric(
        name="error",
        function=lambda o, t: float((o.argmax(1) != t).mean()),
        higher_is_better=False,
    )
    assert compare_own(error, right, wrong, y, seed=0, resamples=100).loss == pytest.approx(0.25)


def test_resamples_without_a_value_are_counted(answers):
    right, wrong, _ = answers
    target = np.arange(40)

    def rare(outputs, y):
        return 1.0 if (y == 0).any() else float("nan")

    metric = OwnMetric(name="rare", function=rare, higher_is_better=True)
    once = compare_own(metric, right, wrong, torch.tensor(target), seed=0, resamples=200)
    # One sequence is missing from about a third of all resamples.
    assert once.low is None
    assert "undefined on" in once.interval
    often = compare_own(metric, right, wrong, torch.tensor(target // 4), seed=0, resamples=200)
    assert (often.low, often.high) == (0.0, 0.0)
    assert "of them undefined" in often.interval


def test_other_sequences_are_refused(source, answers):
    right, wrong, y = answers
    with pytest.raises(DataError):
        compare_own(own_metric(f"{source}:money"), right, wrong[:3], y, seed=0)
