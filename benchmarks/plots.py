"""Plots of benchmarks: an SVG file with the data beside it, in the house style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from record import RESULTS
from ssmith.core.files import write_text
from ssmith.report.plot import ACCENT, INK, MUTED, SOFT, canvas, render, table_csv

_STYLES = ("-", "--", ":", "-.")
Point = tuple[float, float, float, float]
"""Where, value, and the lowest and highest of what it is the mean of."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel of a figure.

    Args:
        title: above it.
        series: label → points in rising order.
    """

    title: str
    series: Mapping[str, Sequence[Point]]


def draw(
    name: str, panels: Sequence[Panel], labels: tuple[str, str], *, ours: Sequence[str] = ()
) -> None:
    """Write ``NAME.svg`` and ``NAME.csv``: one line per series, the same styles in every panel.

    Args:
        name: of the files.
        panels: at least one.
        labels: of the two axes.
        ours: series to set off, with the range of their values behind them.
    """
    every = list(dict.fromkeys(label for panel in panels for label in panel.series))
    rest = [label for label in every if label not in ours]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with canvas(320 * columns, 250 * rows + 24 * (1 + len(every) // 4)) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flatten()[len(panels) :]:
            axes.set_axis_off()
        handles: dict[str, Any] = {}
        for axes, panel in zip(grid.flatten(), panels, strict=False):
            for label, points in panel.series.items():
                handles[label] = _line(axes, label, points, every, rest)
            axes.set_title(panel.title, fontsize=12, color=INK)
            axes.set_xlabel(labels[0])
            axes.set_ylabel(labels[1])
        figure.legend(
            [handles[label] for label in every],
            every,
            loc="lower center",
            ncols=4,
            frameon=False,
            fontsize=11,
        )
        figure.tight_layout(rect=(0, 0.03 + 0.04 * (1 + len(every) // 4) / rows, 1, 1))
        plot = render(
            figure,
            name=name,
            alt=f"{labels[1]} against {labels[0]} for {', '.join(every)}; the data are beside it.",
            data=table_csv(
                ["panel", "series", labels[0], "mean", "lowest", "highest"],
                [
                    [panel.title, label, *point]
                    for panel in panels
                    for label, points in panel.series.items()
                    for point in points
                ],
            ),
        )
    write_text(RESULTS / f"{name}.svg", plot.svg)
    write_text(RESULTS / f"{name}.csv", plot.csv)


def _line(
    axes: Any, label: str, points: Sequence[Point], every: Sequence[str], rest: Sequence[str]
) -> Any:
    x, mean, low, high = (list(column) for column in zip(*points, strict=True))
    if label in rest:
        place = rest.index(label)
        colour = (MUTED, SOFT)[place // len(_STYLES) % 2]
        (line,) = axes.plot(x, mean, color=colour, ls=_STYLES[place % len(_STYLES)], lw=1.6)
        return line
    axes.fill_between(x, low, high, color=ACCENT, alpha=0.12, lw=0)
    marker = ("o", "s", "^", "D")[(len(every) - 1 - every.index(label)) % 4]
    (line,) = axes.plot(x, mean, color=ACCENT, marker=marker, ms=4, lw=2)
    return line
