"""Plans as files: there and back, editable, and refused where they are malformed."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssmith.core.errors import ArtefactError, PlanError
from ssmith.core.files import read_json
from ssmith.core.findings import Finding
from ssmith.core.layers import count_kept
from ssmith.core.plan import Cut, Plan

FINDING = Finding(layer="a", kind="unstable", message="state 2 is unstable", units=(2,))


def make_cut(**changes):
    keep = {
        "a": torch.tensor([True, False, True]),
        "b": torch.tensor([[True, False], [False, False], [True, True]]),
        "c": torch.zeros(0, dtype=torch.bool),
    }
    given_values = {
        "unit": "state",
        "keep": keep,
        "method": {"name": "LAST", "p": 2},
        "budget": {"unit": "state", "sparsity": 0.4},
        "threshold": 0.25,
    }
    return Cut(**{**given_values, **changes})


def make_plan(*cuts, **changes):
    given_values = {
        "cuts": cuts or (make_cut(),),
        "model_digest": "ab" * 32,
        "values": {"a.D": torch.tensor([1.5, -0.0]), "a.C": torch.eye(2, dtype=torch.bfloat16)},
        "findings": (FINDING,),
        "facts": {"error": {"before": 2.0, "after": 1.0}},
    }
    return Plan(**{**given_values, **changes})


def assert_same(first, second):
    assert first.diff(second) == ()
    assert len(first.cuts) == len(second.cuts)
    for one, other in zip(first.cuts, second.cuts, strict=True):
        assert set(one.keep) == set(other.keep)
        for name, mask in one.keep.items():
            assert other.keep[name].dtype == torch.bool
            assert torch.equal(mask, other.keep[name])
        rest = [dataclasses.replace(cut, keep={}) for cut in (one, other)]
        assert rest[0] == rest[1]
    assert {name: (v.dtype, v.tolist()) for name, v in first.values.items()} == {
        name: (v.dtype, v.tolist()) for name, v in second.values.items()
    }
    assert (first.model_digest, first.findings) == (second.model_digest, second.findings)
    assert first.facts == second.facts


def test_counts():
    cut = make_cut()
    assert (cut.total, cut.kept) == (9, 5)
    assert cut.sparsity == pytest.approx(4 / 9)
    assert count_kept(cut.keep) == 5
    assert make_cut(keep={}).sparsity == 0.0
    assert make_plan().cut("state").kept == 5
    with pytest.raises(KeyError, match="head"):
        make_plan().cut("head")


PLANS = {
    "all": make_plan(),
    "without values": make_plan(values={}),
    "without findings": make_plan(findings=()),
    "no threshold": make_plan(make_cut(threshold=None)),
    "two cuts": make_plan(make_cut(), make_cut(unit="entry", semantics="memoryless")),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("name", ["plan.json", "mine.json", "directory"])
def test_there_and_back(plan, name, tmp_path):
    plan.save(tmp_path / name)
    assert_same(Plan.load(tmp_path / name), plan)
    place = tmp_path / name if name == "directory" else tmp_path
    json_file = "plan.json" if name == "directory" else name
    beside = {json_file.replace(".json", ".safetensors")} if plan.values else set()
    assert {file.name for file in place.iterdir()} == {json_file, *beside}


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=0, max_size=4))
def test_any_mask_comes_back(tmp_path_factory, rows):
    mask = torch.tensor(rows, dtype=torch.bool).reshape(-1, 3)
    plan = make_plan(make_cut(keep={"grid": mask, "flat": mask.reshape(-1)}), values={})
    place = tmp_path_factory.mktemp("plan")
    plan.save(place)
    assert_same(Plan.load(place), plan)


def test_masks_that_nobody_would_read_are_bits(tmp_path):
    mask = torch.rand(300, 301, generator=torch.Generator().manual_seed(0)) < 0.5
    plan = make_plan(make_cut(keep={"a.in_proj.weight": mask}), values={})
    plan.save(tmp_path)
    (site,) = read_json(tmp_path / "plan.json")["cuts"][0]["sites"].values()
    assert site == {"grid": [300, 301], "keep": None}
    assert_same(Plan.load(tmp_path), plan)


def edited(plan, place, change):
    """Save a plan, change its JSON, and load it again."""
    plan.save(place)
    content = read_json(place / "plan.json")
    change(content)
    (place / "plan.json").write_text(json.dumps(content))
    return Plan.load(place)


def test_the_order_of_kept_indices_does_not_matter(tmp_path):
    def change(content):
        content["cuts"][0]["sites"]["a"]["keep"] = [2, 0, 2]

    assert_same(edited(make_plan(), tmp_path, change), make_plan())


def test_a_person_can_read_it():
    text = str(make_plan())
    assert "keep 5 of 9 state" in text
    assert "by LAST" in text
    assert "a: keep 2 of 3" in text
    assert "new values: 6 numbers in 2 tensors" in text
    assert "state 2 is unstable" in text


def test_a_difference_is_told_in_a_line_each():
    plan = make_plan()
    other = make_cut(keep={**make_cut().keep, "a": torch.tensor([False, True, True])})
    assert plan.diff(make_plan(other)) == ("a: 1 state stay here only, 1 there only",)
    assert plan.diff(make_plan(model_digest="cd" * 32)) == (
        f"made for weights {'ab' * 6}… and {'cd' * 6}…",
    )
    assert plan.diff(make_plan(make_cut(unit="entry"))) == ("cuts state and entry",)
    assert plan.diff(make_plan(make_cut(semantics="zero"))) == ("state: cut as remove and zero",)
    fewer = make_cut(keep={name: mask for name, mask in make_cut().keep.items() if name != "c"})
    assert plan.diff(make_plan(fewer)) == ("c: state of grid (0,) and None",)
    values = {"a.D": torch.tensor([1.5, 0.5]), "a.y": torch.zeros(1)}
    assert plan.diff(make_plan(values=values)) == (
        "a.C: a new value in the first only",
        "a.D: other new values",
        "a.y: a new value in the second only",
    )


def drop(*path):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content.pop(path[-1])

    return change


def put(value, *path):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


CUT = ("cuts", 0)
A = (*CUT, "sites", "a")
B = (*CUT, "sites", "b")
KEYS = ["version", "model_digest", "cuts", "tensors", "tensors_sha256", "findings", "facts"]
CUT_KEYS = ["unit", "semantics", "method", "budget", "threshold", "sites"]
FAULTS = [
    *[drop(key) for key in KEYS],
    *[drop(*CUT, key) for key in CUT_KEYS],
    put(1, "surprise"),
    put(1, *CUT, "surprise"),
    put(1, "version"),
    put("2", "version"),
    put([3], *A, "keep"),
    put([-1], *A, "keep"),
    put([True], *A, "keep"),
    put([0.0], *A, "keep"),
    put(["0"], *A, "keep"),
    put([[0]], *A, "keep"),
    put("012", *A, "keep"),
    put(None, *A, "keep"),
    put([[0], [1]], *B, "keep"),
    put([0, 1, 1], *B, "keep"),
    put([], *A, "grid"),
    put([-3], *A, "grid"),
    put([2.5], *A, "grid"),
    put(["3"], *A, "grid"),
    put([True], *A, "grid"),
    put(3, *A, "grid"),
    put(None, *A, "grid"),
    put([10**15], *A, "grid"),
    put([10**40], *A, "grid"),
    put({}, *A),
    put([], *CUT, "sites"),
    put(None, *CUT, "sites"),
    put(3, "findings"),
    put([{}], "findings"),
    put(["unstable"], "findings"),
    put(7, *CUT, "unit"),
    put(None, *CUT, "semantics"),
    put("LAST", *CUT, "method"),
    put([], *CUT, "budget"),
    put("low", *CUT, "threshold"),
    put(True, *CUT, "threshold"),
    put(None, "model_digest"),
    put(3, "cuts"),
    put([3], "cuts"),
    put([], "facts"),
    put("../plan.safetensors", "tensors"),
    put(7, "tensors"),
    put("0" * 64, "tensors_sha256"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_each_fault_is_one_line_of_ours(fault, tmp_path):
    with pytest.raises(PlanError) as caught:
        edited(make_plan(), tmp_path, fault)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, [], 3, "plan", {}], ids=str)
def test_what_is_no_plan_at_all(content, tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(PlanError):
        Plan.load(tmp_path)


def test_a_file_that_is_no_json(tmp_path):
    path = tmp_path / "plan.json"
    with pytest.raises(ArtefactError, match="cannot read"):
        Plan.load(path)
    path.write_text('{"version": 1,')
    with pytest.raises(ArtefactError, match="not valid JSON"):
        Plan.load(path)


def test_values_that_went_missing_or_were_swapped(tmp_path):
    make_plan().save(tmp_path)
    beside = tmp_path / "plan.safetensors"
    content = beside.read_bytes()
    beside.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PlanError, match=r"is not the file that plan\.json names"):
        Plan.load(tmp_path)
    beside.unlink()
    with pytest.raises(ArtefactError, match="keep the two together"):
        Plan.load(tmp_path)
