"""The report: one self-contained page, and its plots as files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ssmith.core.directories import refuse_strangers
from ssmith.core.files import write_text
from ssmith.core.receipt import Receipt
from ssmith.report.costs import read_memory, read_size, read_speed
from ssmith.report.curves import read_curves
from ssmith.report.facts import (
    finding_rows,
    parity_rows,
    parity_verdict,
    provenance,
    raw_json,
    saving_facts,
    speed_facts,
)
from ssmith.report.kinds import ALL, kind_of, seen_in, summary_of
from ssmith.report.layers import read_layers, shared_threshold
from ssmith.report.look import printable
from ssmith.report.numbers import difference_format
from ssmith.report.plot import Plot
from ssmith.report.plot_costs import cost_plot
from ssmith.report.plot_layers import kept_plot, score_plots
from ssmith.report.plot_quality import quality_plots
from ssmith.report.quality import read_quality
from ssmith.report.template import fill
from ssmith.report.tuned import measure_row, measures, tuned_facts, tuned_plots

PLOTS = re.compile(
    r"(quality|quality-narrow|quality-near|layers|costs|training|training-narrow|scores-\d+)\.(svg|csv)"
)
"""Names of the plots beside a page."""
_MARK = '<meta name="generator" content="ssmith">'


def write_report(receipt: Receipt, directory: Path) -> Path:
    """Write ``report.html`` and ``plots/NAME.svg`` with ``plots/NAME.csv``.

    The page needs no network and no other file. The same receipt gives the same bytes. Plots
    of an earlier report in the same place are replaced, and removed where they are outdated.

    Args:
        receipt: any receipt; what it did not measure is named as such.
        directory: where to write; created if need be.

    Returns:
        Path of the page.

    Raises:
        OutputExistsError: if files of these names are there and no report of ours.
        MissingExtraError: if matplotlib or jinja2 is not installed; nothing is written then.
        ArtefactError: if the disk refuses.
    """
    groups = _plots(receipt)
    page = fill("report.html.j2", _context(receipt, groups))
    plots = [plot for group in groups.values() for plot in group]
    path = directory / "report.html"
    _refuse_plots(directory, path)
    # The page first: plots beside a page of ours are ours.
    write_text(path, page)
    for plot in plots:
        write_text(directory / "plots" / f"{plot.name}.svg", plot.svg)
        write_text(directory / "plots" / f"{plot.name}.csv", plot.csv)
    _remove_outdated(directory / "plots", {plot.name for plot in plots})
    return path


def _refuse_plots(directory: Path, page: Path) -> None:
    """Raise if files would be replaced that no report of ours left here."""
    try:
        ours = page.is_file() and _MARK in page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        ours = False
    named = [item.name for item in directory.glob("plots/*") if PLOTS.fullmatch(item.name)]
    there = [page.name] * page.exists() + [f"plots/{name}" for name in sorted(named)]
    refuse_strangers(directory, [] if ours else there)


def _plots(receipt: Receipt) -> dict[str, list[Plot]]:
    curves = read_curves(receipt)
    layers = read_layers(receipt)
    costs = [*read_speed(receipt), *read_memory(receipt), *read_size(receipt)]
    kept, cost = kept_plot(layers), cost_plot(costs)
    return {
        "learned": tuned_plots(receipt) if "learned" in kind_of(receipt).sections else [],
        "quality": quality_plots(curves) if curves else [],
        "scores": score_plots(layers),
        "layers": [kept] if kept else [],
        "costs": [cost] if cost else [],
    }


def _context(receipt: Receipt, plots: dict[str, list[Plot]]) -> dict[str, Any]:
    layers = read_layers(receipt)
    curves = read_curves(receipt)
    # A cut that no score decided has none; a pilot says what it did not measure.
    filled = {"layers": layers, "scores": plots["scores"]}
    filled = {name: found for name, found in filled.items() if found}
    return {
        "summary": summary_of(receipt),
        "shown": [
            name
            for name in ALL
            if name in kind_of(receipt).sections and (name in filled or receipt.action != "prune")
        ],
        "seen": seen_in(receipt),
        "tuned": [measure_row(*item) for item in measures(receipt).items()],
        "tuned_facts": tuned_facts(receipt),
        "plots": plots,
        "curves": curves,
        "test_split": printable(receipt.quality.split),
        "tolerance": _tolerance(receipt),
        "quality": read_quality(receipt),
        "layers": layers,
        "one_threshold": shared_threshold(layers) is not None,
        "unscored": sum(layer.unscored for layer in layers),
        "speed": read_speed(receipt),
        "memory": read_memory(receipt),
        "size": read_size(receipt),
        "speed_facts": speed_facts(receipt),
        "parity": parity_rows(receipt),
        "parity_verdict": parity_verdict(receipt),
        "saving": saving_facts(receipt),
        "assumptions": [printable(item) for item in receipt.saving.assumptions],
        "findings": finding_rows(receipt),
        "provenance": provenance(receipt),
        "command": printable(" ".join(receipt.method.command)),
        "raw": raw_json(receipt),
    }


def _tolerance(receipt: Receipt) -> str:
    curves = read_curves(receipt)
    if curves is None:
        return ""
    return difference_format(curves.metric)(curves.curve.tolerance).lstrip("+")


def _remove_outdated(directory: Path, current: set[str]) -> None:
    """Remove plots that an earlier report left here; foreign files stay."""
    for path in directory.glob("*"):
        if PLOTS.fullmatch(path.name) and path.stem not in current:
            path.unlink()
