"""Measure two models on the same data: quality, speed, memory, parity, and a verdict."""

from ssmith.evaluation.changes import Change, collect_changes
from ssmith.evaluation.comparison import Comparison
from ssmith.evaluation.gate import Evidence, Limits, judge
from ssmith.evaluation.intervals import Estimate
from ssmith.evaluation.memory import Memory, measure_memory
from ssmith.evaluation.metrics import Metric, Outcomes
from ssmith.evaluation.own import (
    OwnComparison,
    OwnMetric,
    OwnMetricConfig,
    answers_of_own,
    compare_own,
    in_own_units,
    measured_own,
    own_metric,
)
from ssmith.evaluation.parity import ParityReport, check, forward_difference, step_vs_scan
from ssmith.evaluation.path_rows import PathParity, PathParityConfig
from ssmith.evaluation.paths import check_paths
from ssmith.evaluation.predict import predict
from ssmith.evaluation.saving import Load, estimate_saving
from ssmith.evaluation.sequential import Sequential, SequentialConfig
from ssmith.evaluation.speed import Speed, SpeedConfig, measure_speed
from ssmith.evaluation.task import Task, outcomes_of
from ssmith.evaluation.tasks import TASKS, default_task, named_task, task_of
from ssmith.evaluation.timing import Timing, time_pair
from ssmith.evaluation.verbs import compare, evaluate

__all__ = [
    "TASKS",
    "Change",
    "Comparison",
    "Estimate",
    "Evidence",
    "Limits",
    "Load",
    "Memory",
    "Metric",
    "Outcomes",
    "OwnComparison",
    "OwnMetric",
    "OwnMetricConfig",
    "ParityReport",
    "PathParity",
    "PathParityConfig",
    "Sequential",
    "SequentialConfig",
    "Speed",
    "SpeedConfig",
    "Task",
    "Timing",
    "answers_of_own",
    "check",
    "check_paths",
    "collect_changes",
    "compare",
    "compare_own",
    "default_task",
    "estimate_saving",
    "evaluate",
    "forward_difference",
    "in_own_units",
    "judge",
    "measure_memory",
    "measure_speed",
    "measured_own",
    "named_task",
    "outcomes_of",
    "own_metric",
    "predict",
    "step_vs_scan",
    "task_of",
    "time_pair",
]
