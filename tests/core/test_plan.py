"""Plans as JSON: there and back, editable, and refused where they are malformed."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssmith.core.errors import ArtefactError, PlanError
from ssmith.core.layers import Finding, count_kept
from ssmith.core.plan import Plan

FINDING = Finding(layer="a", kind="unstable", message="state 2 is unstable", units=(2,))


def make_plan(**changes):
    keep = {
        "a": torch.tensor([True, False, True]),
        "b": torch.tensor([[True, False], [False, False], [True, True]]),
        "c": torch.zeros(0, dtype=torch.bool),
    }
    given_values = {
        "unit": "states",
        "keep": keep,
        "criterion": {"name": "LAST", "p": 2},
        "budget": {"states": 0.4},
        "model_digest": "ab" * 32,
        "threshold": 0.25,
        "findings": (FINDING,),
    }
    return Plan(**{**given_values, **changes})


def facts(plan):
    return (
        plan.unit,
        plan.criterion,
        plan.budget,
        plan.model_digest,
        plan.threshold,
        plan.findings,
    )


def assert_same(first, second):
    assert set(first.keep) == set(second.keep)
    for name, mask in first.keep.items():
        assert mask.dtype == second.keep[name].dtype == torch.bool
        assert torch.equal(mask, second.keep[name])
    assert facts(first) == facts(second)


def test_counts():
    plan = make_plan()
    assert (plan.total, plan.kept) == (9, 5)
    assert plan.removed_fraction == pytest.approx(4 / 9)
    assert count_kept(plan.keep) == 5
    assert make_plan(keep={}).removed_fraction == 0.0


@pytest.mark.parametrize("changes", [{}, {"threshold": None}, {"findings": ()}], ids=str)
def test_there_and_back(changes, tmp_path):
    plan = make_plan(**changes)
    assert_same(Plan.from_json(json.loads(plan.to_json())), plan)
    plan.save(tmp_path / "plan.json")
    assert_same(Plan.load(tmp_path / "plan.json"), plan)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=0, max_size=4))
def test_any_mask_comes_back(rows):
    mask = torch.tensor(rows, dtype=torch.bool).reshape(-1, 3)
    plan = make_plan(keep={"grid": mask, "flat": mask.reshape(-1)})
    assert_same(Plan.from_json(json.loads(plan.to_json())), plan)


def test_the_order_of_kept_indices_does_not_matter():
    content = json.loads(make_plan().to_json())
    content["layers"]["a"]["keep"] = [2, 0, 2]
    assert_same(Plan.from_json(content), make_plan())


def test_a_person_can_read_it():
    text = str(make_plan())
    assert "keep 5 of 9 states" in text
    assert "LAST" in text
    assert "a: keep 2 of 3" in text
    assert "state 2 is unstable" in text


def drop(key):
    return lambda content: content.pop(key)


def put(value, *path):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


KEYS = [
    "version", "unit", "criterion", "budget", "model_digest", "threshold", "findings", "layers",
]  # fmt: skip
FAULTS = [
    *[drop(key) for key in KEYS],
    put(1, "surprise"),
    put(2, "version"),
    put("1", "version"),
    put([3], "layers", "a", "keep"),
    put([-1], "layers", "a", "keep"),
    put([True], "layers", "a", "keep"),
    put([0.0], "layers", "a", "keep"),
    put(["0"], "layers", "a", "keep"),
    put([[0]], "layers", "a", "keep"),
    put("012", "layers", "a", "keep"),
    put(None, "layers", "a", "keep"),
    put([[0], [1]], "layers", "b", "keep"),
    put([0, 1, 1], "layers", "b", "keep"),
    put([], "layers", "a", "grid"),
    put([-3], "layers", "a", "grid"),
    put([2.5], "layers", "a", "grid"),
    put(["3"], "layers", "a", "grid"),
    put([True], "layers", "a", "grid"),
    put(3, "layers", "a", "grid"),
    put(None, "layers", "a", "grid"),
    put([10**15], "layers", "a", "grid"),
    put([10**40], "layers", "a", "grid"),
    put({}, "layers", "a"),
    put([], "layers"),
    put(None, "layers"),
    put(3, "findings"),
    put([{}], "findings"),
    put(["unstable"], "findings"),
    put(7, "unit"),
    put("LAST", "criterion"),
    put([], "budget"),
    put(None, "model_digest"),
    put("low", "threshold"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_each_fault_is_one_line_of_ours(fault):
    content = json.loads(make_plan().to_json())
    fault(content)
    with pytest.raises(PlanError) as caught:
        Plan.from_json(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, [], 3, "plan", {}], ids=str)
def test_what_is_no_plan_at_all(content):
    with pytest.raises(PlanError):
        Plan.from_json(content)


def test_a_file_that_is_no_json(tmp_path):
    path = tmp_path / "plan.json"
    with pytest.raises(ArtefactError, match="cannot read"):
        Plan.load(path)
    path.write_text('{"version": 1,')
    with pytest.raises(ArtefactError, match="not valid JSON"):
        Plan.load(path)
