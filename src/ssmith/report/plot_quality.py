"""Quality against removed states: every method, the chosen one emphasised."""

from __future__ import annotations

from typing import Any

from ssmith.report.curves import Curves, Drawn
from ssmith.report.look import shorten
from ssmith.report.numbers import Format, difference_format, percent, quality_format
from ssmith.report.plot import (
    ACCENT,
    INK,
    MUTED,
    PAPER,
    SOFT,
    Plot,
    canvas,
    render,
    table_csv,
)

_DASHES: tuple[Any, ...] = (
    "solid",
    (0, (5, 2.5)),
    (0, (1.2, 2.2)),
    (0, (7, 2, 1.5, 2)),
    (0, (3, 4)),
    (0, (9, 3)),
)
_LEGEND_GAP = 21.0
_LETTER = 8.2
"""Pixels that a letter takes in the widest of the fonts, in bold."""
_NARROW = 128.0
"""Pixels beside the axes of a narrow plot, for its legend."""
_LABEL = 150.0
"""Pixels that the label of the chosen point takes."""


def quality_plots(curves: Curves) -> list[Plot]:
    """Draw the whole range (for wide and narrow pages) and, where it helps, a close-up."""
    near = _near(curves)
    plots = [
        _whole(curves, name="quality", width=620.0, margin=184.0),
        _whole(curves, name="quality-narrow", width=380.0, margin=_NARROW),
    ]
    if near:
        plots.append(_close_up(curves, near))
    return plots


def _whole(curves: Curves, *, name: str, width: float, margin: float) -> Plot:
    height = 380.0
    with canvas(width, height) as figure:
        box = (52 / width, 48 / height, 1 - (52 + margin) / width, 1 - 72 / height)
        axes = figure.add_axes(box)
        _draw(axes, curves)
        _pad(axes, curves)
        _finish(axes, curves, title=curves.metric)
        _legend(axes, curves, limit=int((margin - 44) / _LETTER))
        _label_dense(axes, curves)
        _label_chosen(axes, curves)
        return render(figure, name=name, alt=_alt(curves), data=_data(curves))


def _close_up(curves: Curves, limits: tuple[float, float]) -> Plot:
    width, height = 380.0, 380.0
    with canvas(width, height) as figure:
        axes = figure.add_axes((58 / width, 48 / height, 1 - 70 / width, 1 - 72 / height))
        _draw(axes, curves)
        axes.set_ylim(*limits)
        _finish(axes, curves, title=f"{shorten(curves.metric, 40)}, close-up")
        alt = f"Close-up of the same curves around the tolerated {curves.metric}."
        return render(figure, name="quality-near", alt=alt, data=_data(curves))


def _draw(axes: Any, curves: Curves) -> None:
    band = curves.acceptable
    if band:
        axes.axhspan(*band, color=ACCENT, alpha=0.14, linewidth=0, zorder=0.6)
    if curves.dense:
        axes.axhline(curves.dense.value, color=INK, linewidth=1.1, linestyle=(0, (2, 2)), zorder=1)
    for index, points in enumerate(curves.others.values()):
        axes.plot(*_line(points, curves.dense), zorder=2, **_stroke(index))
    chosen = curves.methods.get(curves.chosen, [])
    if chosen:
        _draw_chosen(axes, chosen, curves)


def _draw_chosen(axes: Any, points: list[Drawn], curves: Curves) -> None:
    ends = [(p.removed, p.low, p.high) for p in points if p.low is not None and p.high is not None]
    if len(ends) > 1:
        x, low, high = zip(*ends, strict=True)
        axes.fill_between(x, low, high, color=ACCENT, alpha=0.18, linewidth=0, zorder=1.5)
    x_line, y_line = _line(points, curves.dense)
    axes.plot(x_line, y_line, color=ACCENT, linewidth=2.6, zorder=4)
    axes.plot(
        [p.removed for p in points],
        [p.value for p in points],
        color=ACCENT,
        linestyle="none",
        marker="o",
        markersize=4.5,
        zorder=4,
    )
    if curves.point:
        axes.plot(
            [curves.point.removed],
            [curves.point.value],
            linestyle="none",
            marker="o",
            markersize=12,
            markerfacecolor=PAPER,
            markeredgecolor=ACCENT,
            markeredgewidth=3,
            zorder=5,
        )


def _line(points: list[Drawn], dense: Drawn | None) -> tuple[list[float], list[float]]:
    """Return a method's line; with nothing removed every method is the unpruned model."""
    start = [dense] if dense and points[0].removed > 0 else []
    return [p.removed for p in start + points], [p.value for p in start + points]


def _pad(axes: Any, curves: Curves) -> None:
    """Leave room for the label of the dense line on its better side."""
    low, high = axes.get_ylim()
    room = 0.07 * (high - low)
    axes.set_ylim(*((low, high + room) if curves.curve.higher_is_better else (low - room, high)))


def _finish(axes: Any, curves: Curves, *, title: str) -> None:
    last = max(points[-1].removed for points in curves.methods.values())
    shown = quality_format(curves.metric)
    low, high = axes.get_ylim()
    digits = 0 if high - low > 0.08 else 1
    axes.set_xlim(0, max(last, 0.01) * 1.015)
    axes.xaxis.set_major_formatter(lambda value, _: percent(value, 0))
    axes.yaxis.set_major_formatter(lambda value, _: _tick(value, shown, digits))
    axes.set_xlabel("share removed", loc="right", labelpad=6)
    axes.set_title(shorten(title, 60), loc="left", fontsize=12, color=MUTED, x=0, pad=8)
    axes.spines["left"].set_visible(False)


def _tick(value: float, shown: Format, digits: int) -> str:
    return percent(value, digits) if shown is percent else shown(value)


def _legend(axes: Any, curves: Curves, *, limit: int) -> None:
    """List the methods beside the axes, best on average first, each with its line."""
    names = sorted(curves.methods, key=lambda name: _mean(curves.methods[name]))
    if curves.curve.higher_is_better:
        names.reverse()
    lines = {name: _stroke(index) for index, name in enumerate(curves.others)}
    lines[curves.chosen] = {"color": ACCENT, "linewidth": 2.6}
    across, up = 1 / axes.bbox.width, 1 / axes.bbox.height
    for place, name in enumerate(names):
        chosen = name == curves.chosen
        y = 1 - (8 + place * _LEGEND_GAP) * up
        x = [1 + 14 * across, 1 + 38 * across]
        axes.plot(x, [y, y], transform=axes.transAxes, clip_on=False, **lines[name])
        axes.text(
            1 + 44 * across,
            y,
            shorten(name, limit),
            transform=axes.transAxes,
            va="center_baseline",
            color=ACCENT if chosen else INK,
            weight="bold" if chosen else "normal",
        )


def _mean(points: list[Drawn]) -> float:
    return sum(point.value for point in points) / len(points)


def _stroke(index: int) -> dict[str, Any]:
    """Return the line of the ``index``-th method that was not chosen."""
    return {
        "color": MUTED if index < len(_DASHES) else SOFT,
        "linewidth": 1.25,
        "linestyle": _DASHES[index % len(_DASHES)],
    }


def _label_dense(axes: Any, curves: Curves) -> None:
    if curves.dense is None:
        return
    label = f"unpruned {quality_format(curves.metric)(curves.dense.value)}"
    # On a narrow plot the longer label would run into the axis; the legend says it too.
    if axes.bbox.width > 300:
        allowed = difference_format(curves.metric)(curves.curve.tolerance).lstrip("+")
        label += f", tolerance {allowed}"
    above = curves.curve.higher_is_better
    axes.annotate(
        label,
        xy=(axes.get_xlim()[1], curves.dense.value),
        xytext=(-2, 6 if above else -6),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        fontsize=11.5,
        color=INK,
    )


def _label_chosen(axes: Any, curves: Curves) -> None:
    if curves.point is None:
        return
    x, y = curves.point.removed, curves.point.value
    edge = axes.get_ylim()[0 if curves.curve.higher_is_better else 1]
    axes.vlines(x, *sorted((edge, y)), color=ACCENT, linewidth=1.2, zorder=1.2)
    share = x / axes.get_xlim()[1]
    # On a narrow plot the label may stand below the legend, where that is above.
    room = (1 - share) * axes.bbox.width + _NARROW * curves.curve.higher_is_better
    right = share < 0.5 or share * axes.bbox.width < _LABEL < room
    axes.annotate(
        f"chosen: {percent(x)} removed\n{quality_format(curves.metric)(y)}",
        xy=(x, edge),
        xytext=(8 if right else -8, 8 if curves.curve.higher_is_better else -8),
        textcoords="offset points",
        ha="left" if right else "right",
        va="bottom" if curves.curve.higher_is_better else "top",
        fontsize=12,
        color=ACCENT,
        linespacing=1.3,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 2},
        zorder=6,
    )


def _near(curves: Curves) -> tuple[float, float] | None:
    """Return the limits of the close-up, or None if the whole plot already shows it."""
    if curves.dense is None or not curves.curve.tolerance:
        return None
    values = [p.value for points in curves.methods.values() for p in points]
    whole = max([*values, curves.dense.value]) - min([*values, curves.dense.value])
    worse, better = 6 * curves.curve.tolerance, 2 * curves.curve.tolerance
    below, above = (worse, better) if curves.curve.higher_is_better else (better, worse)
    low, high = curves.dense.value - below, curves.dense.value + above
    return (low, high) if high - low < 0.5 * whole else None


def _alt(curves: Curves) -> str:
    alt = f"{curves.metric} against the share removed for {len(curves.methods)} methods."
    if curves.point:
        value = quality_format(curves.metric)(curves.point.value)
        alt += f" Chosen: {curves.chosen} with {percent(curves.point.removed)} removed, {value}."
    return alt


def _data(curves: Curves) -> str:
    rows: list[list[Any]] = []
    if curves.dense:
        rows.append(["unpruned", "", 0.0, curves.dense.value, curves.dense.low, curves.dense.high])
    for name, points in curves.methods.items():
        rows += [[name, p.asked, p.removed, p.value, p.low, p.high] for p in points]
    return table_csv(["method", "asked", "removed", "value", "low", "high"], rows)
