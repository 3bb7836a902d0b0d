"""How perplexity answers to one setting of a pruning."""

from __future__ import annotations

from collections.abc import Sequence

from ssmith.report.plot import ACCENT, SOFT, Plot, canvas, render, table_csv


def sweep_plot(axis: str, rows: Sequence[dict[str, float]]) -> Plot:
    """Draw the increase of perplexity over the dense model against the values of a setting."""
    values = [row["value"] for row in rows]
    percent = {name: [100 * row[name] for row in rows] for name in ("increase", "low", "high")}
    with canvas(560, 300) as figure:
        axes = figure.add_axes((0.12, 0.18, 0.85, 0.77))
        axes.fill_between(values, percent["low"], percent["high"], color=SOFT, alpha=0.5, lw=0)
        axes.plot(values, percent["increase"], color=ACCENT, marker="o", lw=2)
        axes.axhline(0, color=SOFT, lw=1)
        if axis == "samples":
            axes.set_xscale("log", base=2)
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
        axes.set_xlabel(axis)
        axes.set_ylabel("increase of perplexity, %")
        return render(
            figure,
            name="sweep",
            alt=f"Increase of perplexity over the dense model for {axis} of "
            + ", ".join(
                f"{value:g}: {increase:.2f} %"
                for value, increase in zip(values, percent["increase"], strict=True)
            )
            + ".",
            data=table_csv(
                ["value", "perplexity", "increase", "low", "high"],
                [
                    [row[name] for name in ("value", "perplexity", "increase", "low", "high")]
                    for row in rows
                ],
            ),
        )
