"""What a faster model saves, by arithmetic from measured times, with its assumptions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ssmith.core.errors import InputError
from ssmith.core.sections import Pair, SavingSection
from ssmith.core.times import GAIN, Times
from ssmith.core.words import number_of

DAYS_PER_MONTH = 30
HOURS_PER_MONTH = 24 * DAYS_PER_MONTH
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a user pays for an hour of the machine, and how many sequences are predicted a day."""

    price_per_hour: float | int
    sequences_per_day: float | int
    currency: str = "EUR"

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("price_per_hour", "sequences_per_day"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise InputError(f"{name} is {value}", allowed="a finite number ≥ 0")


def hours_per_month(sequences_per_day: float | int, seconds_per_sequence: float) -> float:
    """Return the busy hours of a month of 30 days."""
    return sequences_per_day * DAYS_PER_MONTH * seconds_per_sequence / SECONDS_PER_HOUR


def estimate_saving(
    load: Load, *, per_sequence: Times, batch_size: int, path: str, sure: bool = True
) -> SavingSection:
    """Estimate what a change of speed saves; a slower model shows a negative saving.

    Nothing is saved (or lost) by a change that `Times` does not count, or that may be noise.

    ``per_sequence`` was measured in batches of ``batch_size`` on the ``path`` that is named; the
    ``seconds_per_sequence`` of the section are those that count.
    """
    before = per_sequence.medians[0]
    counted = (before, before * per_sequence.ratio if sure and per_sequence.changed else before)
    hours = [hours_per_month(load.sequences_per_day, item) for item in counted]
    costs = [item * load.price_per_hour for item in hours]
    return SavingSection(
        price_per_hour=load.price_per_hour,
        currency=load.currency,
        sequences_per_day=load.sequences_per_day,
        seconds_per_sequence=Pair.of(counted),
        hours_per_month=Pair.of(hours),
        cost_per_month=Pair.of(costs),
        saved_per_month=costs[0] - costs[1],
        counted=_counted(per_sequence, sure=sure),
        assumptions=_assumptions(hours, batch_size, path),
    )


def _counted(times: Times, *, sure: bool) -> str:
    """Say which change of the measured time the estimate rests on."""
    if not sure:
        return (
            "no saving: the times were still changing, or those before and after overlap; repeat "
            "it on a machine with nothing else to do"
        )
    if times.disagree:
        return (
            "no saving: the typical time and the shortest time do not agree on whether the model "
            "became faster, so it counts as equally fast"
        )
    if not times.changed:
        least = f"{100 * GAIN:g} %"
        return f"no saving: the measured time changed by less than {least}, which is not counted"
    if times.ratio > 1:
        return "no saving: the model became slower"
    return "the smaller of two measured gains, of the typical time and of the shortest time"


def _assumptions(hours: list[float], batch_size: int, path: str) -> tuple[str, ...]:
    found = [
        "only the time in which the model computes is counted; idle time is paid in both cases",
        f"sequences arrive in batches of {number_of(batch_size, 'sequence')}, as measured",
        f"the machine in use is as fast as the one measured on ({path})",
        "sequences are as long as the measured ones",
        "reading, preparing and sending data cost the same before and after",
        f"a month has {DAYS_PER_MONTH} days",
    ]
    if max(hours) > HOURS_PER_MONTH:
        found.append(
            f"the load is split over several processes: up to {max(hours):.0f} busy hours "
            f"do not fit into the {HOURS_PER_MONTH} hours of a month"
        )
    return tuple(found)
