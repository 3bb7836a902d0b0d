"""What is counted over the steps of new data, part after part, and said once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ssmith.core.findings import Finding
from ssmith.core.preparation import Preparation
from ssmith.core.words import number_of
from ssmith.recordings.recording import Recordings, finding, place_of

_MOST = 3
"""Channels out of range that are told one by one."""
_ANY = ""


@dataclass(kw_only=True)
class Tally:
    """Steps that are marked: how many of each channel, and which was the first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, found: Recordings, marks: Sequence[NDArray[np.bool_]]) -> None:
        """Count marks (steps, channels) of some recordings."""
        for place, mark in enumerate(marks):
            for channel in np.flatnonzero(mark.any(0)).tolist():
                name, steps = found.channels[channel], np.flatnonzero(mark[:, channel])
                self.counts[name] += len(steps)
                self.first.setdefault(name, place_of(found, place, int(steps[0])))
            if mark.any():
                self.first.setdefault(_ANY, place_of(found, place, int(mark.any(1).argmax())))


def gaps_said(name: str, gaps: Tally) -> str:
    """Return how many gaps there are in a source, and where the first is."""
    worst = ", ".join(f"{channel} {count}" for channel, count in gaps.counts.most_common(5))
    total = number_of(gaps.counts.total(), "gap")
    return f"{name} has {total} ({worst}), the first at {gaps.first[_ANY]}"


def gaps_found(name: str, gaps: Tally) -> tuple[Finding, ...]:
    """Return a finding of gaps that were filled, if there were any."""
    if not gaps.counts:
        return ()
    return (finding("gaps", f"{gaps_said(name, gaps)}: the last value before is held"),)


def beyond(found: Recordings, preparation: Preparation) -> list[NDArray[np.bool_]]:
    """Return which values are far from what training saw."""
    channels = preparation.channels
    return [
        np.stack([one.is_beyond(item[:, place]) for place, one in enumerate(channels)], axis=1)
        for item in found.values
    ]


def beyond_found(preparation: Preparation, far: Tally) -> tuple[Finding, ...]:
    """Return a finding for each of the first channels with values far from what training saw."""
    said, others = [], []
    for channel in preparation.channels:
        count = far.counts[channel.name]
        if not count:
            continue
        others.append(channel.name)
        if len(others) > _MOST:
            continue
        text = (
            f"channel {channel.name!r} is far outside {channel.low:g} to {channel.high:g}"
            f"{' ' * bool(channel.unit)}{channel.unit}, which training saw, at "
            f"{number_of(count, 'step')}, the first {far.first[channel.name]}"
        )
        said.append(finding("out-of-range", text))
    if len(others) > _MOST:
        text = f"{len(others) - _MOST} more channels as well: {', '.join(others[_MOST:])}"
        said.append(finding("out-of-range", text))
    return tuple(said)
