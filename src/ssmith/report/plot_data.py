"""Pictures of data before any training: series over time, distributions, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy import isfinite

from ssmith.report.plot import ACCENT, INK, SOFT, Plot, canvas, render, table_csv

_WIDTH, _ROW, _MOST = 620.0, 90.0, 6
_POINTS, _BINS = 1500, 40


def series_plot(name: str, series: Any, channels: Sequence[str], times: Any | None) -> Plot:
    """Draw one recording (steps, channels), a panel for each of its first channels.

    NaN is a gap; steps are counted without times, and every so many are drawn of a long one. Raises
    `MissingExtraError` if matplotlib is not installed.
    """
    stride = max(1, len(series) // _POINTS)
    shown = list(channels[:_MOST])
    x = (range(len(series)) if times is None else times)[::stride]
    height = _ROW * len(shown) + 50
    with canvas(_WIDTH, height) as figure:
        for place, channel in enumerate(shown):
            bottom = (40 + _ROW * (len(shown) - 1 - place)) / height
            axes = figure.add_axes((64 / _WIDTH, bottom, 1 - 84 / _WIDTH, (_ROW - 34) / height))
            axes.plot(x, series[::stride, place], color=ACCENT, linewidth=1.0)
            axes.set_title(channel, loc="left", fontsize=11, color=INK)
            if place < len(shown) - 1:
                axes.tick_params(labelbottom=False)
        axes.set_xlabel("step" if times is None else "time")
        rows = [(at, *map(float, row)) for at, row in
                zip(x, series[::stride, : len(shown)], strict=True)]  # fmt: skip
        more = f" of {len(channels)}" if len(channels) > len(shown) else ""
        alt = f"Recording {name}: {len(series)} steps, {len(shown)}{more} channels."
        data = table_csv(("time", *shown), rows)
        return render(figure, name="series", alt=alt, data=data)


def distributions_plot(values: Any, channels: Sequence[str]) -> Plot:
    """Draw how often each channel has which values, over all steps (see `series_plot`)."""
    shown = list(channels[: 2 * _MOST])
    rows: list[tuple[str, float, float, int]] = []
    lines = -(-len(shown) // 3)
    height = 110.0 * lines + 20
    with canvas(_WIDTH, height) as figure:
        for place, channel in enumerate(shown):
            line, column = divmod(place, 3)
            box = (
                (40 + column * 198) / _WIDTH, (30 + 110 * (lines - 1 - line)) / height,
                150 / _WIDTH, 60 / height,
            )  # fmt: skip
            axes = figure.add_axes(box)
            known = values[isfinite(values[:, place]), place]
            counts, edges, _ = axes.hist(known, bins=_BINS, color=SOFT)
            axes.set_title(channel, loc="left", fontsize=11, color=INK)
            axes.tick_params(labelleft=False)
            ends = zip(edges[:-1], edges[1:], counts, strict=True)
            rows += [(channel, float(low), float(high), int(count)) for low, high, count in ends]
        alt = f"How often {', '.join(shown)} have which values."
        return render(
            figure, name="distributions", alt=alt,
            data=table_csv(("channel", "from", "to", "steps"), rows),
        )  # fmt: skip


def labels_plot(counts: Mapping[str, int], noun: str) -> Plot:
    """Draw how many recordings or steps have each label (see `series_plot`)."""
    height = 22.0 * len(counts) + 60
    with canvas(_WIDTH, height) as figure:
        axes = figure.add_axes((140 / _WIDTH, 40 / height, 1 - 160 / _WIDTH, 1 - 60 / height))
        axes.barh(list(counts)[::-1], list(counts.values())[::-1], color=ACCENT)
        axes.set_xlabel(noun)
        alt = f"{noun} of each label: " + ", ".join(f"{k} {v}" for k, v in counts.items())
        return render(
            figure, name="labels", alt=alt, data=table_csv(("label", noun), [*counts.items()])
        )
