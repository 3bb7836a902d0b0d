"""Tune a model: attach, train, judge, save; and open it again."""

from ssmith.jobs.tuning.config import TuneConfig
from ssmith.jobs.tuning.record import Tuned
from ssmith.jobs.tuning.run import fine_tune
from ssmith.jobs.tuning.start import methods_in

__all__ = ["TuneConfig", "Tuned", "fine_tune", "methods_in"]
