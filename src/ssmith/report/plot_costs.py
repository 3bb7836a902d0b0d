"""Every measured cost as a share of what it was before."""

from __future__ import annotations

from ssmith.report.costs import Cost
from ssmith.report.plot import ACCENT, INK, MUTED, SOFT, Plot, canvas, render, table_csv

_ROW = 52.0


def cost_plot(costs: list[Cost]) -> Plot | None:
    """Draw the costs that were measured; None if none was."""
    bars = [(cost, cost.pair) for cost in costs if cost.pair and cost.pair.before > 0]
    if not bars:
        return None
    width, height = 400.0, _ROW * len(bars) + 14
    most = max(max(pair.after / pair.before, 1.0) for _, pair in bars)
    with canvas(width, height) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, most * 1.005)
        axes.set_ylim(height, 0)
        for index, (cost, pair) in enumerate(bars):
            top = 6 + index * _ROW
            axes.barh(top + 24, 1.0, height=9, color=SOFT, alpha=0.8)
            axes.barh(top + 34, pair.after / pair.before, height=9, color=ACCENT)
            axes.text(0, top + 9, cost.label, va="center", color=INK)
            said = f"{cost.before} → {cost.after}"
            axes.text(most, top + 9, said, va="center", ha="right", color=MUTED)
        return render(
            figure,
            name="costs",
            alt="Costs before and after: "
            + "; ".join(f"{cost.label} {cost.before} to {cost.after}" for cost, _ in bars)
            + ".",
            data=table_csv(
                ["cost", "unit", "before", "after"],
                [[cost.label, cost.unit, pair.before, pair.after] for cost, pair in bars],
            ),
        )
