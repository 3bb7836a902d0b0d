"""The spine: the only room where two verbs meet."""

from ssmith.spine.across import shares_that_go
from ssmith.spine.blockwise import PassSizes, check_by_block, needs_whole, pass_sizes
from ssmith.spine.planning import label_of, outline, plan, reads_data
from ssmith.spine.selective import check_windows

__all__ = [
    "PassSizes",
    "check_by_block",
    "check_windows",
    "label_of",
    "needs_whole",
    "outline",
    "pass_sizes",
    "plan",
    "reads_data",
    "shares_that_go",
]
