"""Learning rates to start from: measured here, or published for State-offset Tuning."""

from __future__ import annotations

from ssmith.core.errors import InputError
from ssmith.core.sections import Rate

_COLUMNS = ("state-offset-h", "state-offset-y", "initial-state", "lora", "additional-scan")
_PUBLISHED: dict[str, tuple[float, float, float, float, float]] = {
    "dart": (4e-4, 4e-3, 2e-3, 4e-3, 4e-3),
    "cola": (2e-4, 1e-3, 2e-3, 4e-5, 2e-3),
    "mnli": (4e-4, 1e-3, 2e-3, 2e-3, 4e-3),
    "mrpc": (2e-4, 2e-3, 1e-3, 2e-3, 2e-3),
    "qnli": (1e-4, 2e-3, 2e-3, 1e-3, 2e-3),
    "qqp": (4e-5, 1e-3, 2e-3, 1e-3, 4e-2),
    "rte": (1e-3, 1e-3, 4e-4, 2e-3, 4e-3),
    "sst2": (1e-4, 1e-3, 2e-3, 2e-3, 1e-1),
    "samsum": (1e-4, 1e-3, 2e-4, 2e-3, 4e-3),
    "spider": (2e-4, 2e-3, 1e-3, 4e-3, 4e-3),
}
_MEASURED = {
    "adamw": {
        "state-offset-h": 0.025, "state-offset-h-lowrank": 0.05, "state-offset-y": 0.08,
        "initial-state": 0.1, "lora": 0.025, "dora": 0.025, "core": 0.025, "additional-scan": 0.1,
        "bitfit": 0.1, "prompt": 0.3, "prefix": 0.3, "sdt": 0.025, "parameters": 0.025,
        "full": 0.005, "full-ssm": 0.025, "head": 0.02,
    },
    "muon": {
        "state-offset-h": 0.012, "state-offset-h-lowrank": 0.03, "lora": 0.018, "dora": 0.018,
        "core": 0.08,
    },
}  # fmt: skip
_HELPED = ("core", "state-offset-h", "state-offset-h-lowrank")
"""LoRA gains a per cent by Muon at the rate that suits its targets, and loses more at another."""
_STEADY = 1000
DATA_SETS = tuple(_PUBLISHED)


def starting_rate(
    group: str, data_set: str | None = None, *, optimizer: str = "adamw", steps: int = 1
) -> Rate:
    """Return the learning rate to start a group of parameters (``"state-offset-h"``) from.

    It is the published one of a data set, which is AdamW's, or the one measured here. Beyond 1,000
    steps a measured rate falls with their root, which meets the published rates at the lengths of
    the published runs.

    Source: measured: benchmarks/tuning.py, the rates that validate best on three tasks with one
        search for all; published: the configurations of the released code of State-offset Tuning
        (arXiv 2503.03499): AdamW, batch 4, bf16, no warm-up, linear decay, no weight decay.
    Differs: the additional-scan rates of the paper's code were found for an initialisation whose
        added states cannot learn; they are a start at best.
    """
    if data_set is not None:
        return _published(group, data_set)
    known = _MEASURED[optimizer]
    if group not in known:
        raise InputError(
            f"there is no starting rate for {group!r} with {optimizer}",
            allowed=", ".join(known),
            next_step="give a rate",
        )
    shrink = min(1.0, (_STEADY / steps) ** 0.5)
    words = "measured on small models" + f", for {steps} steps" * (shrink < 1)
    return Rate(value=known[group] * shrink, source=words, optimizer=optimizer)


def helped_by_muon(group: str) -> bool:
    """Return whether Muon was measured to help a group's matrices."""
    return group in _HELPED


def _published(group: str, data_set: str) -> Rate:
    if data_set not in _PUBLISHED:
        raise InputError(
            f"data set {data_set!r} has no published rates", allowed=", ".join(DATA_SETS)
        )
    whole = group.removesuffix("-lowrank")
    if whole not in _COLUMNS:
        return starting_rate(group)
    value = _PUBLISHED[data_set][_COLUMNS.index(whole)]
    return Rate(value=value, source=f"published for {data_set}")
