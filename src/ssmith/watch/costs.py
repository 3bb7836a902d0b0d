"""Seconds and bytes of a network, in turns with what it was cut from."""

from __future__ import annotations

import platform

import torch
from torch import nn

from ssmith.core.errors import SsmithError
from ssmith.core.looks import PassCost
from ssmith.core.rows import Rows
from ssmith.core.running import evaluating
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation.memory import forward_peak_bytes, parameter_bytes
from ssmith.evaluation.runs import runs_of
from ssmith.evaluation.timing import time_pair

SLOWER = 1.5
"""Times the seconds, or the bytes, of the profile that are worth an alarm."""
_SEQUENCES, _WINDOWS = 64, 8


def measure(model: nn.Module, dense: nn.Module | None, rows: Rows, seconds: float) -> PassCost:
    """Measure one forward pass, of the first rows; a pass that cannot be timed says why.

    ``seconds`` are spent on it; 0 to measure nothing.
    """
    if seconds <= 0:
        return PassCost(why_not="not asked for")
    size = _WINDOWS if isinstance(rows, TokenWindows) else _SEQUENCES
    first = rows.take(torch.arange(min(size, len(rows))))
    try:
        own, other = runs_of(model, first), runs_of(model if dense is None else dense, first)
        with own.around(), other.around(), evaluating(model, *([] if dense is None else [dense])):
            timing = time_pair(own.batch, other.batch, seconds=seconds)
        peak = forward_peak_bytes(model, first)
    except SsmithError as error:
        return PassCost(why_not=error.what)
    medians, minima = timing.medians, timing.minima
    return PassCost(
        seconds=medians[0], least=minima[0],
        dense=None if dense is None else medians[1],
        dense_least=None if dense is None else minima[1],
        settled=not timing.unsettled, peak_bytes=peak, parameter_bytes=parameter_bytes(model),
        rows=own.rows, length=own.length, threads=torch.get_num_threads(),
        machine=platform.node(),
    )  # fmt: skip


def slower(before: PassCost, now: PassCost) -> tuple[float | None, str]:
    """Return by what factor passes are slower than in the profile, or None with the reason.

    Both the median and the shortest time must say it: the smaller factor counts. With the dense
    network at hand times are taken relative to its own, measured in turns on the same machine.
    """
    why = before.why_not or now.why_not
    if why:
        return None, why
    if not (before.settled and now.settled):
        return None, "times had not settled, and decide nothing"
    if (before.rows, before.length) != (now.rows, now.length):
        return None, "rows of another number or length than in the profile"
    if None not in (before.dense, before.dense_least, now.dense, now.dense_least):
        old = before.seconds / before.dense, before.least / before.dense_least  # type: ignore[operator]
        new = now.seconds / now.dense, now.least / now.dense_least  # type: ignore[operator]
    elif (before.machine, before.threads) != (now.machine, now.threads):
        return None, "another machine, or another number of threads"
    else:
        old, new = (before.seconds, before.least), (now.seconds, now.least)
    return min(new[0] / old[0], new[1] / old[1]), ""
