"""The spine: the only room where two verbs meet."""

from ssmith.spine.choice import choose
from ssmith.spine.plan import plan
from ssmith.spine.selective import can_refit, check_windows
from ssmith.spine.sizes import summed_numbers

__all__ = ["can_refit", "check_windows", "choose", "plan", "summed_numbers"]
