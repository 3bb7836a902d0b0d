"""The pilot: measure, sweep, cut, check, compare, judge, report."""

from ssmith.jobs.pilot.config import PilotConfig
from ssmith.jobs.pilot.run import pilot

__all__ = ["PilotConfig", "pilot"]
