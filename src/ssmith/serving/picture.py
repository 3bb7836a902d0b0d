"""An answer taken apart, as a picture and a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ssmith.core.files import write_text
from ssmith.report.plot import ACCENT, BAD, MUTED, Plot, canvas, render, table_csv
from ssmith.serving.attribution import Attribution

_SHOWN = 4
"""Channels that are drawn: those that the answer rests on most."""


def draw(found: Attribution, x: Tensor, *, names: Sequence[str], title: str, name: str) -> Plot:
    """Draw the channels that matter most, each over time, with what its steps add."""
    rows = x[:, None] if x.ndim == 1 else x
    order = found.values.abs().sum(0).argsort(descending=True)[:_SHOWN].tolist()
    steps = range(len(rows))
    with canvas(640, 60 + 130 * len(order)) as figure:
        axes = figure.subplots(len(order), 1, sharex=True, squeeze=False)[:, 0]
        top = float(found.values.abs().max()) or 1.0
        for axis, channel in zip(axes, order, strict=True):
            added = found.values[:, channel].tolist()
            colours = [ACCENT if value >= 0 else BAD for value in added]
            axis.bar(steps, added, width=1.0, color=colours)
            axis.set_ylim(-top, top)
            axis.set_ylabel(names[channel])
            series = axis.twinx()
            series.plot(steps, rows[:, channel].tolist(), color=MUTED, linewidth=1.0)
            series.set_yticks([])
        axes[0].set_title(title, loc="left", fontsize=12)
        axes[-1].set_xlabel("step")
        figure.tight_layout()
        return render(figure, name=name, alt=title, data=_table(found, rows, names))


def write_picture(directory: Path, plot: Plot) -> None:
    """Write a drawing and its table under its name."""
    write_text(directory / f"{plot.name}.svg", plot.svg)
    write_text(directory / f"{plot.name}.csv", plot.csv)


def _table(found: Attribution, rows: Tensor, names: Sequence[str]) -> str:
    lines = [
        (step, name, float(rows[step, channel]), float(found.values[step, channel]))
        for step in range(len(rows))
        for channel, name in enumerate(names)
    ]
    return table_csv(("step", "channel", "value", "adds"), lines)
