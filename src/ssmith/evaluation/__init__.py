"""Measure two models on the same data: quality, speed, memory, parity, and a verdict."""

from ssmith.evaluation.changes import Change, collect_changes
from ssmith.evaluation.compare import Agreement, Comparison, compare_outcomes
from ssmith.evaluation.gate import Evidence, Limits, judge
from ssmith.evaluation.intervals import Estimate, estimate
from ssmith.evaluation.language import (
    Perplexity,
    PerplexityComparison,
    compare_perplexity,
    measure_perplexity,
)
from ssmith.evaluation.language_costs import measure_language_memory, measure_language_speed
from ssmith.evaluation.memory import Memory, measure_memory
from ssmith.evaluation.metrics import (
    ACCURACY,
    METRICS,
    Metric,
    default_metric,
    find_metric,
    predict,
)
from ssmith.evaluation.own import OwnComparison, OwnMetric, compare_own, own_metric
from ssmith.evaluation.parity import (
    ParityCheck,
    ParityReport,
    check,
    forward_difference,
    step_vs_scan,
)
from ssmith.evaluation.path_checks import PathCheck, PathParity, PathParityConfig
from ssmith.evaluation.path_parity import check_paths
from ssmith.evaluation.saving import Load, estimate_saving
from ssmith.evaluation.speed import Speed, SpeedConfig, measure_speed
from ssmith.evaluation.state_space import state_space_run
from ssmith.evaluation.timing import Timing, time_pair

__all__ = [
    "ACCURACY",
    "METRICS",
    "Agreement",
    "Change",
    "Comparison",
    "Estimate",
    "Evidence",
    "Limits",
    "Load",
    "Memory",
    "Metric",
    "OwnComparison",
    "OwnMetric",
    "ParityCheck",
    "ParityReport",
    "PathCheck",
    "PathParity",
    "PathParityConfig",
    "Perplexity",
    "PerplexityComparison",
    "Speed",
    "SpeedConfig",
    "Timing",
    "check",
    "check_paths",
    "collect_changes",
    "compare_outcomes",
    "compare_own",
    "compare_perplexity",
    "default_metric",
    "estimate",
    "estimate_saving",
    "find_metric",
    "forward_difference",
    "judge",
    "measure_language_memory",
    "measure_language_speed",
    "measure_memory",
    "measure_perplexity",
    "measure_speed",
    "own_metric",
    "predict",
    "state_space_run",
    "step_vs_scan",
    "time_pair",
]
