"""Small multiples, a timeline and series over time, in the style of the report's plots.

What a chart shows is told by shape as well as by colour, so that it can be read in grey.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ssmith.report.plot import (
    ACCENT,
    BAD,
    INK,
    LINE,
    MUTED,
    PAPER,
    SOFT,
    Plot,
    canvas,
    render,
)

_WIDTH, _HEIGHT = 236.0, 148.0
_LEFT = 60.0
_NARROW = 328.0
_MARKERS = {"live": "o", "before": "o", "refused": "X", "waiting": "D"}
_FILLS = {"live": ACCENT, "before": MUTED, "refused": PAPER, "waiting": PAPER}


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One version in a panel: its number, what was measured, with its interval, and its state."""

    place: int
    value: float
    interval: tuple[float, float] | None
    state: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One point of a series: when, what was found, with its interval, and whether it alarmed."""

    time: datetime
    value: float
    interval: tuple[float, float] | None = None
    alarm: bool = False


@dataclass(frozen=True, kw_only=True)
class Event:
    """A ``refuse``, ``alarm``, ``rollback`` or ``override`` on a timeline, in a version's row."""

    time: datetime
    row: int
    kind: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A time during which a version was live, in its row; to the end of the drawing if it is."""

    row: int
    start: datetime
    end: datetime
    live: bool


def panel(dots: Sequence[Dot], *, name: str, alt: str, shown: Callable[[float], str]) -> Plot:
    """Draw one quantity of every version, beside the value of the first."""
    with canvas(_WIDTH, _HEIGHT) as figure:
        axes = figure.add_axes((_LEFT / _WIDTH, 0.17, 0.98 - _LEFT / _WIDTH, 0.76))
        first = dots[0]
        axes.axhline(first.value, color=INK, linewidth=1.1, linestyle=(0, (2, 2)), zorder=1.5)
        for dot in dots:
            if dot.interval:
                low, high = dot.interval
                axes.plot([dot.place] * 2, [low, high], color=SOFT, linewidth=5, zorder=2)
            _mark(axes, dot)
        places = [dot.place for dot in dots]
        axes.set_xlim(min(places) - 0.6, max(places) + 0.6)
        axes.set_xticks(_thinned(places, 8))
        axes.tick_params(axis="x", length=0)
        _scale(axes, dots, shown)
        return render(figure, name=name, alt=alt, data="")


def _mark(axes: Any, dot: Dot) -> None:
    axes.plot(
        [dot.place], [dot.value], marker=_MARKERS[dot.state], markersize=9 if dot.state == "live"
        else 7, markerfacecolor=_FILLS[dot.state], markeredgecolor=BAD if dot.state == "refused"
        else ACCENT if dot.state == "live" else MUTED, markeredgewidth=1.4, zorder=3,
    )  # fmt: skip


def _scale(axes: Any, dots: Sequence[Dot | Step], shown: Callable[[float], str]) -> None:
    """Leave room around the values, and write at most four of them."""
    ends = [end for dot in dots for end in (dot.interval or ())]
    values = [*(dot.value for dot in dots), *ends]
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * 0.14
    axes.set_ylim(low - room, high + room)
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(lambda value, _: shown(value))
    axes.spines["left"].set_visible(False)


def _thinned(places: Sequence[int], most: int) -> list[int]:
    """Return at most ``most`` of the places, with the last among them."""
    step = -(-len(places) // most)
    return list(reversed(places[::-1][::step]))


def timeline(
    bars: Sequence[Bar],
    events: Sequence[Event],
    *,
    rows: int,
    narrow: bool,
    name: str,
    alt: str,
    shown: Callable[[datetime], str],
) -> Plot:
    """Draw which version was live when, a row for each, the newest on top."""
    width = _NARROW if narrow else 960.0
    row = 26.0
    height = rows * row + 34
    left = 30.0
    with canvas(width, height) as figure:
        axes = figure.add_axes(
            (left / width, 26 / height, 1 - (left + 12) / width, rows * row / height)
        )
        axes.set_ylim(0.5, rows + 0.5)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        for place in range(1, rows + 1):
            axes.axhline(place, color=LINE, linewidth=1, zorder=0.5)
        for bar in bars:
            axes.barh(
                bar.row, bar.end - bar.start, left=bar.start, height=0.56,
                color=ACCENT if bar.live else SOFT, zorder=2,
            )  # fmt: skip
        for event in events:
            _event(axes, event)
        _time_axis(axes, [*(e.time for e in events), *(t for b in bars for t in (b.start, b.end))],
                   2 if narrow else 5, shown)  # fmt: skip
        axes.set_yticks(_thinned(range(1, rows + 1), 24))
        return render(figure, name=name, alt=alt, data="")


_EVENTS = {
    "refuse": ("X", PAPER, BAD),
    "alarm": ("^", BAD, BAD),
    "rollback": ("<", INK, INK),
    "override": ("s", BAD, BAD),
}


def _event(axes: Any, event: Event) -> None:
    marker, fill, edge = _EVENTS[event.kind]
    axes.plot(
        [event.time], [event.row], marker=marker, markersize=8, markerfacecolor=fill,
        markeredgecolor=edge, markeredgewidth=1.3, linestyle="none", zorder=3, clip_on=False,
    )  # fmt: skip


def series(
    steps: Sequence[Step],
    *,
    limit: float | None,
    name: str,
    alt: str,
    shown: Callable[[float], str],
    day: Callable[[datetime], str],
) -> Plot:
    """Draw something over time, with the limit that raises an alarm (dotted)."""
    with canvas(_WIDTH, _HEIGHT) as figure:
        axes = figure.add_axes((_LEFT / _WIDTH, 0.17, 0.96 - _LEFT / _WIDTH, 0.76))
        times = [step.time for step in steps]
        banded = [step for step in steps if step.interval]
        if len(banded) > 1:
            lows, highs = zip(*(step.interval for step in banded if step.interval), strict=True)
            axes.fill_between([step.time for step in banded], lows, highs, color=SOFT, alpha=0.45)
        axes.plot(times, [step.value for step in steps], color=ACCENT, linewidth=1.6, zorder=2)
        for step in steps:
            axes.plot(
                [step.time], [step.value], marker="^" if step.alarm else "o", zorder=3,
                markersize=8 if step.alarm else 4.5, linestyle="none",
                color=BAD if step.alarm else ACCENT, clip_on=False,
            )  # fmt: skip
        around = list(steps)
        if limit is not None:
            axes.axhline(limit, color=INK, linewidth=1.1, linestyle=(0, (2, 2)), zorder=1.5)
            around.append(Step(time=times[0], value=limit))
        _time_axis(axes, times, 2, day)
        _scale(axes, around, shown)
        return render(figure, name=name, alt=alt, data="")


def _time_axis(
    axes: Any, times: Sequence[datetime], ticks: int, shown: Callable[[datetime], str]
) -> None:
    """Span the times, with few dates that stand inside."""
    start, end = min(times), max(times)
    whole = max(end - start, timedelta(minutes=1))
    axes.set_xlim(start - whole * 0.01, start + whole * 1.01)
    places = [start + whole * index / (ticks - 1) for index in range(ticks)]
    axes.set_xticks(places)
    axes.set_xticklabels([shown(place) for place in places])
    axes.tick_params(axis="x", length=0)
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")
