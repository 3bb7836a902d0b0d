"""What a page says of times: no more than medians and least times both show."""

import pytest

from ssmith.core.receipt import Receipt
from ssmith.report.costs import read_speed


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], "2.0× faster"),
        # The median of the first side is a warm-up; the least times say almost nothing changed.
        ([1.0, 9.0, 9.0], [0.99, 4.0, 4.0], "no gain"),
        ([1.0, 9.0, 9.0], [1.1, 4.0, 4.0], "no gain (medians and least times disagree)"),
        ([1.0, 1.0, 1.0], [3.0, 3.0, 3.0], "3.0× slower"),
        ([], [], "2.2× faster"),
    ],
)
def test_a_time_changes_by_the_median_or_the_least_whichever_says_less(before, after, said):
    middle = (before or [9.0])[len(before) // 2], (after or [4.0])[len(after) // 2]
    timing = {"before": middle[0], "after": middle[1]}
    timing["samples"] = {"before": before, "after": after}
    receipt = Receipt(
        action="pilot", model={}, method={}, seed=0, versions={}, speed={"per_batch": timing}
    )
    assert read_speed(receipt)[0].change.replace("\u00a0", " ").startswith(said)
