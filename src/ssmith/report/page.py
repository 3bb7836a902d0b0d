"""The report: one self-contained page, and its plots as files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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
from ssmith.report.layers import read_layers, shared_threshold
from ssmith.report.look import items, text
from ssmith.report.numbers import difference_format
from ssmith.report.plot import Plot
from ssmith.report.plot_costs import cost_plot
from ssmith.report.plot_layers import kept_plot, score_plots
from ssmith.report.plot_quality import quality_plots
from ssmith.report.quality import read_quality
from ssmith.report.summary import read_summary
from ssmith.report.template import fill

_OURS = re.compile(r"(quality|quality-narrow|quality-near|layers|costs|scores-\d+)\.(svg|csv)")


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
        MissingExtraError: if matplotlib or jinja2 is not installed; nothing is written then.
        ArtefactError: if the disk refuses.
    """
    groups = _plots(receipt)
    page = fill("report.html.j2", _context(receipt, groups))
    plots = [plot for group in groups.values() for plot in group]
    for plot in plots:
        write_text(directory / "plots" / f"{plot.name}.svg", plot.svg)
        write_text(directory / "plots" / f"{plot.name}.csv", plot.csv)
    _remove_outdated(directory / "plots", {plot.name for plot in plots})
    path = directory / "report.html"
    write_text(path, page)
    return path


def _plots(receipt: Receipt) -> dict[str, list[Plot]]:
    curves = read_curves(receipt)
    layers = read_layers(receipt)
    costs = [*read_speed(receipt), *read_memory(receipt), *read_size(receipt)]
    kept, cost = kept_plot(layers), cost_plot(costs)
    return {
        "quality": quality_plots(curves) if curves else [],
        "scores": score_plots(layers),
        "layers": [kept] if kept else [],
        "costs": [cost] if cost else [],
    }


def _context(receipt: Receipt, plots: dict[str, list[Plot]]) -> dict[str, Any]:
    layers = read_layers(receipt)
    curves = read_curves(receipt)
    return {
        "summary": read_summary(receipt),
        "plots": plots,
        "curves": curves,
        "test_split": text(receipt.quality, "split"),
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
        "assumptions": [text({"a": item}, "a") for item in items(receipt.saving, "assumptions")],
        "findings": finding_rows(receipt),
        "provenance": provenance(receipt),
        "command": _command(receipt),
        "raw": raw_json(receipt),
    }


def _tolerance(receipt: Receipt) -> str:
    curves = read_curves(receipt)
    if curves is None:
        return ""
    return difference_format(curves.metric)(curves.curve.tolerance).lstrip("+")


def _command(receipt: Receipt) -> str:
    command = receipt.method.get("command")
    if isinstance(command, list | tuple):
        return " ".join(text({"word": word}, "word") for word in command)
    return text(receipt.method, "command")


def _remove_outdated(directory: Path, current: set[str]) -> None:
    """Remove plots that an earlier report left here; foreign files stay."""
    for path in directory.glob("*"):
        if _OURS.fullmatch(path.name) and path.stem not in current:
            path.unlink()
