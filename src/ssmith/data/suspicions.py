"""What in a series may not be what it is taken for: said, and left to its owner."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Float32, Int64
from torch import Tensor

from ssmith.core.words import number_of
from ssmith.data.pool import valid_steps

_MANY_CHANNELS = 16
_MARKS = (-9999.0, -999.0, -99.0, 9999.0, 99999.0, -32768.0)
# Seconds, milliseconds and microseconds since 1970, for times from 2001 to 2100.
_EPOCHS = tuple((unit * 9.8e8, unit * 4.2e9) for unit in (1.0, 1e3, 1e6))


def suspicions(
    x: Float32[Tensor, "b l c"], lengths: Int64[Tensor, "b"], names: Sequence[str]
) -> list[str]:
    """Return sentences on values that stand for a gap, times among channels, and swapped axes."""
    found = []
    seen = x[valid_steps(lengths, x.shape[1])]
    for place in range(x.shape[2]):
        called = f"channel {names[place]!r}" if names else f"channel {place}"
        found += [message for message, _ in of_channel(seen[:, place], called)]
    if may_be_swapped(x.shape[1], x.shape[2]):
        found.append(swapped(x.shape[1], x.shape[2]))
    return found


def may_be_swapped(steps: int, channels: int) -> bool:
    """Return whether there are so many more channels than steps that these may be those."""
    return channels >= _MANY_CHANNELS and 1 < steps < channels


def swapped(steps: int, channels: int) -> str:
    """Return what to do where an array has its axes in another order."""
    return (
        f"{number_of(channels, 'channel')} over {number_of(steps, 'step')}: if steps "
        "come last in the file, swap its axes: (sequences, steps, channels) is what is read"
    )


def of_channel(values: Float[Tensor, "s"], called: str) -> list[tuple[str, float | None]]:
    """Return sentences on a channel, each with the value that stands for a gap, if it is of one."""
    found: list[tuple[str, float | None]] = []
    for mark in _MARKS:
        here = values == mark
        others = values[~here]
        if not bool(here.any()) or len(others) < 2:
            continue
        # Further from the nearest other value than those are from each other.
        if float((others - mark).abs().min()) > float(others.amax() - others.amin()):
            message = (
                f"{called} is {mark:g} at {number_of(int(here.sum()), 'step')}, far from all "
                "others: if it stands for a gap, leave these steps out or fill them in"
            )
            found.append((message, mark))
    low, high = float(values.amin()), float(values.amax())
    if low < high and any(start <= low and high <= stop for start, stop in _EPOCHS):
        message = (
            f"{called} lies between {low:.0f} and {high:.0f}, as times since 1970 do: if it is the "
            "time of a step, call its column time or drop it"
        )
        found.append((message, None))
    return found
