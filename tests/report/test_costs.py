"""What a page says of times: no more than medians and least times both show."""

import pytest

from helpers.receipts import changed, receipt_of
from ssmith.report import write_index
from ssmith.report.costs import read_speed
from ssmith.report.facts import saving_facts, speed_facts
from ssmith.report.losing import losing_cases


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], "2.0× faster"),
        # The median of the first side is a warm-up; the least times say almost nothing changed.
        ([1.0, 9.0, 9.0], [0.99, 4.0, 4.0], "no gain"),
        ([1.0, 9.0, 9.0], [1.1, 4.0, 4.0], "no gain (medians and least times disagree)"),
        ([1.0, 1.0, 1.0], [3.0, 3.0, 3.0], "3.0× slower"),
        ([], [], "2.2× faster"),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], "no gain (1.0×)"),
    ],
)
def test_a_time_changes_by_the_median_or_the_least_whichever_says_less(before, after, said):
    middle = (before or [9.0])[len(before) // 2], (after or [4.0])[len(after) // 2]
    timing = {"before": middle[0], "after": middle[1]}
    timing["samples"] = {"before": before, "after": after}
    receipt = receipt_of(speed={"per_batch": timing})
    assert read_speed(receipt)[0].change.replace("\u00a0", " ").startswith(said)


def test_a_time_that_did_not_count_as_slower_is_no_losing_case():
    timing = {"before": 4.0, "after": 9.0, "samples": {"before": [1.1, 4.0], "after": [1.0, 9.0]}}
    assert losing_cases(receipt_of(action="compare", speed={"per_batch": timing})) == []
    timing["samples"]["after"] = [2.0, 9.0]
    assert len(losing_cases(receipt_of(action="compare", speed={"per_batch": timing}))) == 1


def test_pages_say_that_and_why_nothing_is_saved(accepted, tmp_path):
    nothing = {
        **accepted.as_dict()["saving"],
        "cost_per_month": {"before": 2.68, "after": 2.68},
        "saved_per_month": 0.0,
        "counted": "no saving: the model became no faster",
    }
    receipt = changed(accepted, saving=nothing)
    facts = {fact.label: fact.value for fact in saving_facts(receipt)}
    assert facts["counted"] == "no saving: the model became no faster"
    page = write_index([("one", tmp_path, receipt)], tmp_path).read_text(encoding="utf-8")
    assert "no measured saving" in page
    page = write_index([("one", tmp_path, accepted)], tmp_path).read_text(encoding="utf-8")
    assert "no measured saving" not in page


@pytest.mark.parametrize(("settled", "said"), [(True, "had settled"), (False, "had not settled")])
def test_pages_say_how_times_were_warmed_up(accepted, settled, said):
    assert "warm-up" not in {fact.label for fact in speed_facts(accepted)}
    per_batch = {
        **accepted.as_dict()["speed"]["per_batch"],
        "warm_up": {"calls": 5, "seconds": 0.1, "settled": settled},
    }
    receipt = changed(accepted, speed={**accepted.as_dict()["speed"], "per_batch": per_batch})
    facts = {fact.label: fact.value for fact in speed_facts(receipt)}
    assert facts["warm-up"] == f"5 batches, times {said}"
