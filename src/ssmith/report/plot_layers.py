"""Kept states per layer, and the sorted scores of each layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ssmith.report.layers import Layer, shared_threshold, short_names
from ssmith.report.numbers import count, significant
from ssmith.report.plot import ACCENT, INK, MUTED, SOFT, Plot, canvas, render, table_csv

_DRAWN = 240
_ROW = 42.0
_WIDTH = 400.0


def kept_plot(layers: list[Layer]) -> Plot | None:
    """Draw how many states every layer keeps; None if the receipt does not say."""
    known = [(layer, layer.before, layer.after) for layer in layers]
    bars = [(layer, b, a) for layer, b, a in known if b is not None and a is not None]
    if not bars:
        return None
    width, height = _WIDTH, _ROW * len(bars) + 12
    most = max(max(before, after, 1) for _, before, after in bars)
    with canvas(width, height) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, most * 1.005)
        axes.set_ylim(height, 0)
        labels = short_names([layer.name for layer, _, _ in bars], 36)
        for index, (_, before, after) in enumerate(bars):
            top = 6 + index * _ROW
            axes.barh(top + 27, before, height=12, color=SOFT, alpha=0.55)
            axes.barh(top + 27, after, height=12, color=ACCENT)
            axes.text(0, top + 9, labels[index], va="center", color=INK)
            said = f"{count(after)} of {count(before)}"
            axes.text(most, top + 9, said, va="center", ha="right", color=MUTED)
        return render(
            figure,
            name="layers",
            alt="Kept states per layer: "
            + ", ".join(f"{layer.name} {after} of {before}" for layer, before, after in bars[:12])
            + ("." if len(bars) <= 12 else ", and so on."),
            data=table_csv(
                ["layer", "grid", "before", "after"],
                [[layer.name, layer.grid, before, after] for layer, before, after in bars],
            ),
        )


def score_plots(layers: list[Layer]) -> list[Plot]:
    """Draw the sorted scores of every layer that has any."""
    shown = [layer for layer in layers if layer.scores]
    threshold = shared_threshold(shown)
    common = None if threshold is None else _limits([s for la in shown for _, s, _ in la.scores])
    labels = short_names([layer.name for layer in shown], 24)
    return [
        _scores(layer, _Panel(name=f"scores-{index}", label=label, limits=common, cut=threshold))
        for index, (layer, label) in enumerate(zip(shown, labels, strict=True), start=1)
    ]


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """How one panel is drawn: file name, label, and limits and threshold if all share them."""

    name: str
    label: str
    limits: tuple[float, float] | None
    cut: float | None


def _scores(layer: Layer, panel: _Panel) -> Plot:
    width, height = 320.0, 230.0
    values = [score for _, score, _ in layer.scores]
    low, high = panel.limits or _limits(values)
    cut = layer.threshold if panel.cut is None else panel.cut
    logarithmic = low > 0
    with canvas(width, height) as figure:
        axes = figure.add_axes((54 / width, 44 / height, 1 - 64 / width, 1 - 78 / height))
        axes.set_yscale("log" if logarithmic else "linear")
        axes.set_ylim(low, high)
        _bars(axes, layer, floor=low)
        if cut is not None and low < cut < high:
            axes.axhline(cut, color=INK, linewidth=1.1, linestyle=(0, (2, 2)))
        _frame(axes, layer, panel.label, logarithmic=logarithmic)
        alt = f"Sorted scores of {layer.name}: {_kept(layer)} of {len(values)} kept"
        alt += "." if cut is None else f", threshold {significant(cut)}."
        rows = [
            [layer.name, rank, index, score, str(stays).lower()]
            for rank, (index, score, stays) in enumerate(layer.scores, start=1)
        ]
        header = ["layer", "rank", "index", "score", "kept"]
        return render(figure, name=panel.name, alt=alt, data=table_csv(header, rows))


def _bars(axes: Any, layer: Layer, *, floor: float) -> None:
    """Draw one bar per rank; of very many ranks, evenly spaced ones."""
    total = len(layer.scores)
    step = max(1, math.ceil(total / _DRAWN))
    for stays, colour, alpha in ((True, ACCENT, 1.0), (False, SOFT, 0.8)):
        vertices: list[tuple[float, float]] = []
        for rank in range(0, total, step):
            _, score, kept = layer.scores[rank]
            if kept == stays:
                left, right = rank, min(rank + step, total)
                top = max(score, floor)
                vertices += [(left, floor), (left, top), (right, top), (right, floor)]
        if vertices:
            x, y = zip(*vertices, strict=True)
            axes.fill_between(x, y, floor, color=colour, alpha=alpha, linewidth=0, zorder=1.5)


def _frame(axes: Any, layer: Layer, label: str, *, logarithmic: bool) -> None:
    total = len(layer.scores)
    axes.set_xlim(0, total)
    axes.set_xticks([0, total])
    axes.set_xticklabels(["0", count(total)])
    axes.tick_params(axis="x", length=0)
    for tick, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
        tick.set_horizontalalignment(side)
    if logarithmic:
        low, high = axes.get_ylim()
        axes.set_yticks(_decades(low, high))
        axes.yaxis.set_major_formatter(lambda value, _: _power(value))
        axes.minorticks_off()
    else:
        axes.locator_params(axis="y", nbins=4)
        axes.yaxis.set_major_formatter(lambda value, _: significant(value, 2))
    axes.set_xlabel("states, best score first", labelpad=-8, fontsize=11)
    axes.spines["left"].set_visible(False)
    axes.text(-0.21, 1.13, label, transform=axes.transAxes, color=INK, weight="bold")
    kept = f"{count(_kept(layer))} of {count(total)} kept"
    axes.text(1, 1.13, kept, transform=axes.transAxes, ha="right", color=MUTED, fontsize=11)


def _kept(layer: Layer) -> int:
    return sum(stays for _, _, stays in layer.scores)


def _limits(values: list[float]) -> tuple[float, float]:
    """Return axis limits: logarithmic (low > 0) unless a score is negative or none is positive."""
    positive = [value for value in values if value > 0]
    if min(values) < 0 or not positive:
        low, high = min(values), max(values)
        room = 0.05 * (high - low) or 1.0
        return min(low - room, 0.0), high + room
    low, high = min(positive), max(positive)
    if low == high:
        return low / 2, high * 2
    span = math.log10(high) - math.log10(low)
    # Capped where floating point ends; a score there touches the frame.
    top = min(math.log10(high) + 0.04 * span + 0.01, 307.0)
    return 10 ** max(math.log10(low) - 0.05 * span, -307.0), max(10**top, high)


def _decades(low: float, high: float) -> list[float]:
    """Return at most five powers of ten inside the limits, or the upper limit if there is none."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    step = max(1, math.ceil((last - first + 1) / 5))
    powers = [10.0**power for power in range(first, last + 1, step)]
    return powers or [(low * high) ** 0.5]


def _power(value: float) -> str:
    exponent = math.log10(value)
    if abs(exponent - round(exponent)) > 1e-6:
        return significant(value, 2)
    if -3.5 < exponent < 3.5:
        return f"{value:g}"
    digits = str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}"
