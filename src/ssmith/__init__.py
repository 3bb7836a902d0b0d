"""Prune, tune and ship state space models, with a receipt for every step."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssmith import criteria
    from ssmith.api import (
        PathParityConfig,
        adapt_,
        check_paths,
        compare,
        evaluate,
        inspect,
        load,
        load_adapter_,
        load_data,
        load_text,
        merge_adapter_,
        parity,
        prune_,
        save,
        save_adapter,
        verify,
    )
    from ssmith.core.budget import Budget, Target
    from ssmith.core.errors import SsmithError
    from ssmith.core.plan import Plan
    from ssmith.core.receipt import Receipt
    from ssmith.core.rows import rows
    from ssmith.evaluation import Metric, Task
    from ssmith.families.layout import register
    from ssmith.jobs.pilot import PilotConfig, pilot
    from ssmith.jobs.train import Recipe, train
    from ssmith.jobs.tuning import TuneConfig, fine_tune
    from ssmith.release.line import Line
    from ssmith.release.policy import Policy
    from ssmith.report import write_report
    from ssmith.serving import attribute, predict, stream
    from ssmith.spine import plan
    from ssmith.trials.live import LiveTrial
    from ssmith.tune import adapters
    from ssmith.watch.service import Watch

__version__ = version("ssmith")

__all__ = [
    "Budget",
    "Line",
    "LiveTrial",
    "Metric",
    "PathParityConfig",
    "PilotConfig",
    "Plan",
    "Policy",
    "Receipt",
    "Recipe",
    "SsmithError",
    "Target",
    "Task",
    "TuneConfig",
    "Watch",
    "__version__",
    "adapt_",
    "adapters",
    "attribute",
    "check_paths",
    "compare",
    "criteria",
    "evaluate",
    "fine_tune",
    "inspect",
    "load",
    "load_adapter_",
    "load_data",
    "load_text",
    "merge_adapter_",
    "parity",
    "pilot",
    "plan",
    "predict",
    "prune_",
    "register",
    "rows",
    "save",
    "save_adapter",
    "stream",
    "train",
    "verify",
    "write_report",
]

_ROOMS = {
    "Line": "release.line",
    "LiveTrial": "trials.live",
    "Policy": "release.policy",
    "Watch": "watch.service",
    "Budget": "core.budget",
    "Target": "core.budget",
    "Metric": "evaluation",
    "PilotConfig": "jobs.pilot",
    "Plan": "core.plan",
    "Receipt": "core.receipt",
    "Recipe": "jobs.train",
    "SsmithError": "core.errors",
    "Task": "evaluation",
    "TuneConfig": "jobs.tuning",
    "fine_tune": "jobs.tuning",
    "pilot": "jobs.pilot",
    "attribute": "serving",
    "plan": "spine",
    "predict": "serving",
    "stream": "serving",
    "register": "families.layout",
    "rows": "core.rows",
    "train": "jobs.train",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that ``ssmith --help`` needs no torch."""
    if name == "criteria":
        return import_module("ssmith.criteria")
    if name == "adapters":
        return import_module("ssmith.tune.adapters")
    if name not in __all__:
        raise AttributeError(f"module 'ssmith' has no attribute {name!r}")
    return getattr(import_module(f"ssmith.{_ROOMS.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
