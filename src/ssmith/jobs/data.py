"""Look at data before any training: facts, findings and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ssmith.core.directories import new_directory, refuse_existing
from ssmith.core.preparation import PrepareConfig
from ssmith.recordings import Recordings
from ssmith.recordings.look import look_at
from ssmith.report.data_page import write_data_page
from ssmith.report.plot import Plot
from ssmith.report.plot_data import distributions_plot, labels_plot, series_plot


def look(
    source: str,
    config: PrepareConfig,
    report: Path | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Describe a source, JSON-ready, and write a page of it if a place is given.

    Raises `InputError` if there is no such source, `DataError` if it is not what the settings say,
    `OutputExistsError` if something is at ``report`` that may not be replaced, `MissingExtraError`
    if a page is asked for without matplotlib or jinja2.
    """
    if report is not None:
        refuse_existing(report, overwrite=overwrite)
    found, recordings = look_at(source, config)
    facts = found.as_dict()
    if report is not None:
        with new_directory(report, overwrite=overwrite) as scratch:
            write_data_page(facts, _plots(recordings, facts), scratch)
    return facts


def _plots(recordings: Recordings, facts: dict[str, Any]) -> list[Plot]:
    plots = []
    # One recording of each of the first labels, or the first ones.
    for number, place in enumerate(_examples(recordings)):
        times = None if recordings.times is None else recordings.times[place]
        plot = series_plot(
            recordings.names[place], recordings.values[place], recordings.channels, times
        )
        plots.append(replace(plot, name=f"series-{number}"))
    plots.append(distributions_plot(np.concatenate(recordings.values), recordings.channels))
    if facts["labels"]:
        plots.append(labels_plot(facts["labels"], facts["labelled"]))
    return plots


def _examples(recordings: Recordings) -> list[int]:
    if recordings.labels is None:
        return list(range(min(3, len(recordings.names))))
    first: dict[str, int] = {}
    for place, labels in enumerate(recordings.labels):
        first.setdefault(str(labels[0, 0]), place)
    return list(first.values())[:4]
