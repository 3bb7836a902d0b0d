"""The spine: the only room where two verbs meet."""

from ssmith.spine.across import shares_that_go
from ssmith.spine.choice import choose
from ssmith.spine.planning import label_of, outline, plan, reads_data
from ssmith.spine.selective import can_refit, check_windows, plan_from_disk
from ssmith.spine.sizes import summed_numbers

__all__ = [
    "can_refit",
    "check_windows",
    "choose",
    "label_of",
    "outline",
    "plan",
    "plan_from_disk",
    "reads_data",
    "shares_that_go",
    "summed_numbers",
]
