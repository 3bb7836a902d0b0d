"""Learning rates to start from: those published for State-offset Tuning, by method and data set."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from ssmith.core.errors import InputError

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
_CHOSEN = {
    "dora": 2e-3, "bitfit": 2e-3, "prompt": 1e-2, "prefix": 1e-3, "sdt": 2e-3, "parameters": 1e-3,
    "full": 2e-4, "full-ssm": 5e-4, "head": 2e-3,
}  # fmt: skip
_AS = {"state-offset-h-lowrank": "state-offset-h"}
DATA_SETS = tuple(_PUBLISHED)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A learning rate of AdamW to start from, and where it comes from, in words."""

    value: float
    source: str


def starting_rate(group: str, data_set: str | None = None) -> Rate:
    """Return the learning rate to start a group of parameters (``"state-offset-h"``) from.

    It is the published one of a data set, or the median over all; ours where none is published.

    Source: State-offset Tuning (arXiv 2503.03499), the configurations of its released code: AdamW,
        batch 4, bf16, no warm-up, linear decay, no weight decay.
    Differs: the additional-scan rates of the paper's code were found for an initialisation whose
        added states cannot learn; they are a start at best.
    """
    if data_set is not None and data_set not in _PUBLISHED:
        raise InputError(
            f"data set {data_set!r} has no published rates", allowed=", ".join(DATA_SETS)
        )
    name = _AS.get(group, group)
    if name in _COLUMNS:
        column = _COLUMNS.index(name)
        if data_set is not None:
            return Rate(value=_PUBLISHED[data_set][column], source=f"published for {data_set}")
        median = statistics.median_low(row[column] for row in _PUBLISHED.values())
        return Rate(value=median, source=f"median of {len(_PUBLISHED)} published rates")
    if name in _CHOSEN:
        return Rate(value=_CHOSEN[name], source="ours: none is published")
    raise InputError(
        f"there is no starting rate for {group!r}",
        allowed=", ".join((*_COLUMNS, *_AS, *_CHOSEN)),
        next_step="give a rate",
    )
