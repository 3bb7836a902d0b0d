"""A page on data before any training: what it holds, what looks wrong, and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssmith.core.files import write_json, write_text
from ssmith.core.findings import findings_in, gravest_first
from ssmith.report.plot import Plot
from ssmith.report.template import fill

PAGE, FACTS = "data.html", "data.json"
COLUMNS = ("gaps", "low", "median", "high", "mean", "std")


def write_data_page(look: Mapping[str, Any], plots: Sequence[Plot], directory: Path) -> None:
    """Write ``data.html``, its facts as ``data.json`` and ``plots/NAME.svg`` with their data.

    Into an empty directory. Raises `MissingExtraError` if jinja2 is not installed, `ArtefactError`
    if the disk refuses.
    """
    page = fill(
        "data.html.j2",
        {
            "look": look, "headline": headline(look), "plots": plots, "columns": COLUMNS,
            "findings": gravest_first(findings_in(look)), "rows": channel_rows(look),
        },
    )  # fmt: skip
    write_text(directory / PAGE, page)
    write_json(directory / FACTS, look)
    for plot in plots:
        write_text(directory / "plots" / f"{plot.name}.svg", plot.svg)
        write_text(directory / "plots" / f"{plot.name}.csv", plot.csv)


def headline(look: Mapping[str, Any]) -> str:
    """Return what data holds in a sentence."""
    low, middle, high = look["steps"]
    lengths = f"{low:,} steps" if low == high else f"{low:,} to {high:,} steps ({middle:,} usually)"
    text = f"{look['recordings']:,} recordings of {lengths}, {len(look['channels'])} channels"
    if look["every"] is not None:
        text += f", a step every {look['every']:g}"
    if look["labels"]:
        shown = ", ".join(f"{name} {count:,}" for name, count in list(look["labels"].items())[:12])
        text += f"; {look['labelled']} by label: {shown}"
    if look["groups"] is not None:
        text += f"; {look['groups']} groups"
    if look["rows"]:
        cut = "whole recordings" if look["window"] is None else f"{look['window']} steps"
        shown = ", ".join(f"{name} {count:,}" for name, count in look["rows"].items())
        text += f"; rows of {cut}: {shown}"
    return f"{text}."


def channel_rows(look: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a row of texts for each channel."""
    return [
        (item["name"], item["unit"], *(_shown(item[name]) for name in COLUMNS))
        for item in look["channels"]
    ]


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
