import dataclasses
import json

import pytest
import torch

from ssmith.core.errors import InputError
from ssmith.core.sections import UnitRemoved
from ssmith.core.settings import to_mapping
from ssmith.evaluation.changes import Change, collect_changes, percent
from ssmith.evaluation.comparison import compare_outcomes
from ssmith.evaluation.gate import Evidence, Limits, judge
from ssmith.evaluation.memory import Memory
from ssmith.evaluation.metrics import ACCURACY, MEAN_ABSOLUTE_ERROR, RMSE, Outcomes
from ssmith.evaluation.naive import Naive
from ssmith.evaluation.own import OwnComparison, OwnMetric
from ssmith.evaluation.parity import ParityCheck, ParityReport
from ssmith.evaluation.recall import RECALL
from ssmith.evaluation.speed import Speed
from ssmith.evaluation.timing import Timing

FILE = Change(kind="size", name="file", before=1000, after=790)
BATCH = Change(kind="time", name="batch", before=1.41, after=1.0, minima=(1.4, 1.0))
SAME_FILE = Change(kind="size", name="file", before=1000, after=990)
PARITY = ParityReport(checks=(ParityCheck(name="shrunk_vs_masked", worst=1e-15),))
BROKEN = ParityReport(checks=(ParityCheck(name="shrunk_vs_masked", worst=1e-3),))
REMOVED = {"states": UnitRemoved(before=256, after=161, fraction=95 / 256)}


def outcomes(both, only_before, only_after, neither):
    first = [1.0] * (both + only_before) + [0.0] * (only_after + neither)
    second = [1.0] * both + [0.0] * only_before + [1.0] * only_after + [0.0] * neither
    values = (torch.tensor(item, dtype=torch.float64) for item in (first, second))
    return [Outcomes(numerator=item) for item in values]


def compared(*table):
    return compare_outcomes(*outcomes(*table), ACCURACY, seed=0, resamples=100)


def verdict(
    table=(980, 3, 1, 16), changes=(FILE, BATCH), parity=PARITY, own=None, recall=None, **limits
):
    evidence = Evidence(
        comparison=compared(*table),
        parity=parity,
        changes=changes,
        removed=REMOVED,
        own=own,
        recall=recall or {},
    )
    return to_mapping(judge(evidence, Limits(**limits)))


def reason(found, gate):
    return next(item for item in found["reasons"] if item["gate"] == gate)


def test_accepted_with_the_measured_facts():
    found = verdict()
    assert found["accepted"]
    assert found["headline"] == (
        "37 % of states removed; accuracy 98.3 % → 98.1 %; batch 1.40× faster; file 21 % smaller"
    )
    assert [item["passed"] for item in found["reasons"]] == [True, True, True]
    json.dumps(found, allow_nan=False)


def test_a_loss_at_the_tolerance_passes_and_above_it_fails():
    assert verdict((980, 5, 0, 15))["accepted"]
    found = verdict((980, 6, 0, 14))
    assert not found["accepted"]
    assert found["headline"].startswith("Not accepted (quality): ")
    text = reason(found, "quality")["text"]
    assert "loss 0.6 points, allowed 0.5 points: 6 of 1000 more wrong; 5 allowed" in text
    assert "chance" in text


def test_a_loss_that_may_be_chance_and_one_that_is_not():
    assert "chance" in reason(verdict((980, 6, 0, 14)), "quality")["text"]
    sure = reason(verdict((900, 60, 0, 40)), "quality")["text"]
    assert "The true loss is at least" in sure
    assert "chance" not in sure


def test_a_small_test_set_is_told_and_proof_may_be_demanded():
    small = (98, 0, 0, 2)
    text = reason(verdict(small), "quality")["text"]
    assert "Not proven" in text
    assert "The test set is too small: about 539 sequences" in text
    assert verdict(small)["accepted"]
    assert not verdict(small, proof=True)["accepted"]


def test_a_large_test_set_proves():
    found = verdict((9800, 3, 3, 194), proof=True)
    assert found["accepted"]
    assert "Proven: the true loss is at most" in reason(found, "quality")["text"]


def test_no_larger_test_set_proves_a_loss_at_the_limit():
    assert "no larger test set" in reason(verdict((980, 5, 0, 15)), "quality")["text"]


def test_a_better_model_passes_with_no_tolerance_at_all():
    found = verdict((950, 0, 20, 30), max_loss=0)
    assert found["accepted"]
    assert (
        "loss -2 points, allowed 0 points: 20 of 1000 fewer wrong; 0 allowed"
        in reason(found, "quality")["text"]
    )


def test_no_gain_is_said_and_not_accepted():
    found = verdict(changes=(SAME_FILE,))
    assert not found["accepted"]
    assert found["headline"].startswith(
        "No gain: neither size, memory nor time fell by 5 %; 37 % of states removed"
    )
    assert "faster" not in found["headline"]
    assert "file 1 % smaller" in reason(found, "gain")["text"]
    assert verdict(changes=())["headline"].startswith("No gain")
    assert "nothing was measured" in reason(verdict(changes=()), "gain")["text"]


def test_a_part_alone_is_no_gain():
    part = Change(kind="time", name="state space part", before=2.0, after=1.0, whole=False)
    found = verdict(changes=(SAME_FILE, part))
    assert not found["accepted"]
    assert "state space part" not in found["headline"]


def test_all_failures_are_named():
    found = verdict((900, 60, 0, 40), changes=(SAME_FILE,), parity=BROKEN)
    assert found["headline"].startswith("Not accepted (quality, parity): No gain")
    assert "shrunk_vs_masked 1.0e-03 > 1e-10" in reason(found, "parity")["text"]


def test_a_slower_model_is_told_even_if_it_is_smaller():
    slower = Change(kind="time", name="batch", before=1.0, after=1.5, minima=(1.0, 1.4))
    found = verdict(changes=(FILE, slower))
    assert found["accepted"]
    assert "batch 1.39× slower" in found["headline"] or "batch 1.40× slower" in found["headline"]


def test_the_own_metric_is_judged_only_with_a_tolerance():
    own = OwnComparison(
        metric=OwnMetric(name="money.py:f", function=max, higher_is_better=True),
        before=10.0,
        after=9.0,
        low=-1.5,
        high=-0.5,
        level=0.95,
        interval="paired bootstrap, 1000 resamples",
    )
    free = verdict(own=own)
    assert free["accepted"]
    assert "not judged" in reason(free, "own metric")["text"]
    strict = verdict(own=own, own_max_loss="0.5 absolute")
    assert not strict["accepted"]
    assert "loss 1, allowed 0.5" in reason(strict, "own metric")["text"]
    assert verdict(own=own, own_max_loss="1 absolute")["accepted"]
    # One tenth of what it was before.
    assert verdict(own=own, own_max_loss=0.1)["accepted"]
    assert not verdict(own=own, own_max_loss="9 %")["accepted"]


def test_a_real_valued_metric_is_judged_too():
    draw = torch.Generator().manual_seed(0)
    before = torch.rand(100, generator=draw, dtype=torch.float64)
    comparison = compare_outcomes(
        *(Outcomes(numerator=item) for item in (before, before * 1.21)), RMSE, seed=0, resamples=200
    )
    evidence = Evidence(comparison=comparison, parity=PARITY, changes=(FILE,), removed={}, own=None)
    found = to_mapping(judge(evidence, Limits(max_loss=0.01)))
    assert not found["accepted"]
    assert "nothing removed; rmse" in found["headline"]
    assert judge(evidence, Limits(max_loss="50 %", proof=True)).accepted


def test_limits_are_checked():
    for settings in (
        {"max_loss": -0.1}, {"max_loss": 5}, {"own_max_loss": -1}, {"min_gain": 0.0},
    ):  # fmt: skip
        with pytest.raises(InputError):
            Limits(**settings)


@pytest.mark.parametrize(
    ("change", "fall", "text"),
    [
        (Change(kind="size", name="file", before=100, after=71), 0.29, "file 29 % smaller"),
        (Change(kind="size", name="file", before=1000, after=796), 0.204, "file 20 % smaller"),
        (Change(kind="memory", name="peak", before=100, after=120), -0.2, "peak 20 % higher"),
        (Change(kind="time", name="step", before=3.0, after=1.0), 2 / 3, "step 3.0× faster"),
        (Change(kind="time", name="step", before=1.0, after=1.25), -0.25, "step 1.25× slower"),
        # Medians fell by half, minima by a tenth: the smaller fall is told.
        (
            Change(kind="time", name="step", before=2.0, after=1.0, minima=(1.0, 0.9)),
            0.1,
            "step 1.11× faster",
        ),
        # Medians fell, minima rose: no fall.
        (
            Change(kind="time", name="step", before=2.0, after=1.0, minima=(1.0, 1.1)),
            0.0,
            "step as fast as before",
        ),
    ],
)
def test_changes_in_words_never_exaggerate(change, fall, text):
    assert change.fall == pytest.approx(fall)
    assert change.text == text


def test_percent_is_cut():
    assert percent(0.999) == "99 %"
    assert percent(0.29) == "29 %"
    assert percent(1.0) == "100 %"


def test_a_change_from_nothing_has_no_meaning():
    with pytest.raises(InputError):
        Change(kind="size", name="file", before=0, after=1)


def test_changes_are_collected_from_what_was_measured():
    timing = Timing(before=(2.0, 2.0, 2.0), after=(1.0, 1.0, 1.0), loops=1)
    speed = Speed(
        path="torch, cpu, float32, 1 thread",
        threads=1,
        batch_size=4,
        length=8,
        step_batch_size=1,
        per_batch=timing,
        state_space_per_batch=timing,
        per_step=None,
    )
    memory = Memory(
        how="watched",
        batch_size=4,
        length=8,
        peak_forward=(100, 80),
        state=(64, 32),
        why_null="",
        parameters=(10, 9),
    )
    found = collect_changes(speed=speed, memory=memory, file_bytes=(50, 40))
    assert {item.name: item.whole for item in found} == {
        "file": True,
        "peak memory of a batch": True,
        "state per sequence": True,
        "batch": True,
        "state space part": False,
    }
    assert collect_changes(speed=None, memory=None, file_bytes=None) == ()


def test_a_loss_that_rounds_to_the_tolerance_is_told_in_full():
    # 0.502 points of 358 rows would round to the 0.50 that are allowed: 2 rows, and 1 is.
    found = verdict((340, 3, 1, 14), max_loss="0.5 points")
    assert not found["accepted"]
    text = reason(found, "quality")["text"]
    assert "loss 0.559 points, allowed 0.5 points: 2 of 358 more wrong; 1 allowed" in text
    exact = verdict((99400, 600, 0, 0), max_loss=0.00599)
    assert "loss 0.6 points, allowed 0.599 points" in reason(exact, "quality")["text"]


def test_a_regression_in_milli_units_is_judged_relative_to_what_it_can_do():
    draw = torch.Generator().manual_seed(0)
    before = 1e-3 * torch.rand(200, generator=draw, dtype=torch.float64)
    comparison = compare_outcomes(
        *(Outcomes(numerator=item) for item in (before, 1.31 * before)),
        MEAN_ABSOLUTE_ERROR,
        seed=0,
        resamples=200,
    )
    dense = dataclasses.replace(
        comparison.before, naive=Naive(value=2e-3, answer="always giving the median target")
    )
    comparison = dataclasses.replace(comparison, before=dense)
    evidence = Evidence(comparison=comparison, parity=PARITY, changes=(FILE,), removed={})
    found = to_mapping(judge(evidence, Limits(max_loss=0.005)))
    assert not found["accepted"]
    text = reason(found, "quality")["text"]
    assert "Allowed: 0.5 % of the distance between the model's mean absolute error" in text
    assert reason(found, "base")["passed"]


@pytest.mark.parametrize("value", [0.983, 0.99])
def test_a_model_that_guesses_is_never_accepted(value):
    comparison = compared(980, 3, 1, 16)
    naive = Naive(value=value, answer="always naming the most frequent class")
    before = dataclasses.replace(comparison.before, naive=naive)
    comparison = dataclasses.replace(comparison, before=before)
    evidence = Evidence(
        comparison=comparison, parity=PARITY, changes=(FILE, BATCH), removed=REMOVED
    )
    found = to_mapping(judge(evidence, Limits()))
    assert not found["accepted"]
    assert found["headline"].startswith("Not accepted (base)")
    assert "no better than always naming the most frequent class" in reason(found, "base")["text"]


@pytest.mark.parametrize("waived", [True, False])
def test_what_was_measured_on_copies_is_accepted_only_if_that_is_waived(waived):
    evidence = Evidence(
        comparison=compared(980, 3, 1, 16), parity=PARITY, changes=(FILE, BATCH), removed=REMOVED,
        copies="15 inputs are in more than one split",
    )  # fmt: skip
    found = to_mapping(judge(evidence, Limits(allow_copies=waived)))
    assert found["accepted"] == waived
    assert reason(found, "copies") == {"gate": "copies", "passed": waived, "text": evidence.copies}


@pytest.mark.parametrize("sure", [True, False])
def test_a_time_that_had_not_settled_is_no_gain(sure):
    found = verdict(changes=(SAME_FILE, dataclasses.replace(BATCH, sure=sure)))
    assert found["accepted"] == sure
    assert ("faster" in found["headline"]) == sure
    assert ("not settled" in reason(found, "gain")["text"]) != sure


def test_a_smaller_state_of_each_sequence_is_a_gain():
    state = Change(kind="memory", name="state per sequence", before=1000, after=500)
    assert verdict(changes=(SAME_FILE, state))["accepted"]


def test_too_few_rows_prove_nothing_and_it_is_said():
    found = verdict((1, 0, 0, 0), max_loss="50 points")
    text = reason(found, "quality")["text"]
    assert "No interval: 1 different row, so nothing is proven." in text
    assert not verdict((1, 0, 0, 0), max_loss="50 points", proof=True)["accepted"]


def recalled(before, after, count=100):
    """A comparison of answers right before and after, of which the first ones are."""
    sides = [[1.0] * right + [0.0] * (count - right) for right in (before, after)]
    first, second = (Outcomes(numerator=torch.tensor(side).double()) for side in sides)
    return compare_outcomes(first, second, RECALL, seed=0, resamples=100)


@pytest.mark.parametrize(("after", "allowed", "passed"), [
    (95, "5 points", True), (94, "5 points", False), (60, "50 points", True), (94, 0.06, True),
])  # fmt: skip
def test_what_was_recalled_must_still_be(after, allowed, passed):
    recall = {"copy": recalled(100, after), "passkey": recalled(100, 100)}
    found = verdict(recall=recall, max_recall_loss=allowed)
    gate = reason(found, "recall")
    assert gate["passed"] == found["accepted"] == passed
    assert f"copy 100.0 % → {after}.0 %" in gate["text"]
    assert ("max_recall_loss" in gate["text"]) == (not passed)


def test_what_was_hardly_recalled_is_not_judged():
    gate = reason(verdict(recall={"copy": recalled(9, 0)}), "recall")
    assert gate["passed"] and "not judged" in gate["text"]
