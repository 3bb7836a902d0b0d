"""One round of care for a line: verify, watch, renew, prove, and propose; a person promotes."""

from ssmith.cycle.config import CycleConfig, Renew, read_cycle
from ssmith.cycle.run import Cycle, run_cycle
from ssmith.cycle.steps import Done

__all__ = ["Cycle", "CycleConfig", "Done", "Renew", "read_cycle", "run_cycle"]
