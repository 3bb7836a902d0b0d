"""One page for several receipts: what was cut, tuned and compared, and what did not go well."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ssmith.core.files import write_text
from ssmith.core.receipt import Receipt
from ssmith.report.costs import read_memory
from ssmith.report.kinds import summary_of
from ssmith.report.look import printable
from ssmith.report.losing import losing_cases, tuned_difference, tuned_measures
from ssmith.report.numbers import count, seconds, significant
from ssmith.report.summary import BigNumber, Summary, cost_number, usual_numbers
from ssmith.report.template import fill

Row = tuple[str, Path, Receipt]


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """One receipt of the list: its report relative to the list, and what did not go well."""

    name: str
    link: str
    summary: Summary
    numbers: list[BigNumber]
    losing: list[str]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """One tuning of the list, as `IndexEntry`: parameters trained, and what it was judged by."""

    name: str
    link: str
    about: str
    trained: str
    measures: list[tuple[str, str]]
    time: str
    losing: list[str]


def write_index(
    receipts: Sequence[Row],
    directory: Path,
    *,
    title: str = "Pilots",
    links: Sequence[tuple[str, Path]] = (),
) -> Path:
    """Write ``index.html``: tables of pilots, tunings and comparisons, with links to the reports.

    What did not go well stands in a list of its own, so that nobody has to look for it.

    Args:
        receipts: name, report (its page or the directory that holds ``report.html``) and receipt
            of each.
        directory: where to write; created if need be.
        title: of the page.
        links: name and page of what stands above the tables.

    Returns:
        Path of the page.

    Raises:
        MissingExtraError: if jinja2 is not installed.
        ArtefactError: if the disk refuses.
    """
    by_action: dict[str, list[Row]] = {}
    for row in receipts:
        by_action.setdefault(row[2].action, []).append(row)
    tunings = [_tuning(row, directory) for row in by_action.pop("tune", [])]
    compared = [_entry(row, directory) for row in by_action.pop("compare", [])]
    entries = [_entry(row, directory) for rows in by_action.values() for row in rows]
    context = {
        "title": title,
        "links": [(name, _relative(page, directory)) for name, page in links],
        "entries": entries,
        "accepted": sum(entry.summary.tone == "passed" for entry in entries),
        "tunings": tunings,
        "compared": compared,
        "losing": [
            *((item.name, item.link, item.losing) for item in entries if item.losing),
            *((item.name, item.link, item.losing) for item in tunings if item.losing),
            *((item.name, item.link, item.losing) for item in compared if item.losing),
        ],
        "machine": _machine(receipts),
    }
    path = directory / "index.html"
    write_text(path, fill("index.html.j2", context))
    return path


def _entry(row: Row, directory: Path) -> IndexEntry:
    name, report, receipt = row
    removed, quality, size, latency = usual_numbers(receipt)
    memory = cost_number("Peak memory", read_memory(receipt)[0])
    return IndexEntry(
        name=printable(name),
        link=_link(report, directory),
        summary=summary_of(receipt),
        numbers=[removed, quality, size, memory, latency, _cost(receipt)],
        losing=losing_cases(receipt),
    )


def _cost(receipt: Receipt) -> BigNumber:
    """Return the estimated cost of a month; the report names what it assumes."""
    found = receipt.saving.cost_per_month
    if found is None:
        return BigNumber(label="Cost per month", before="", value="", note="")
    currency = printable(receipt.saving.currency)
    return BigNumber(
        label="Cost per month",
        before=significant(found.before),
        value=f"{significant(found.after)}\u00a0{currency}",
        note="estimated" if found.after != found.before else "estimated, no measured saving",
    )


def _tuning(row: Row, directory: Path) -> Tuning:
    name, report, receipt = row
    share, parameters = receipt.size.share, receipt.size.trained_parameters
    spent, named = receipt.speed.training_seconds, ", ".join(receipt.method.methods)
    return Tuning(
        name=printable(name),
        link=_link(report, directory),
        about=" · ".join(printable(part) for part in (named, receipt.data.name) if part),
        trained="not recorded"
        if parameters is None or share is None
        else f"{count(parameters)} ({significant(100 * share, 2)}\u00a0%)",
        measures=[
            (measure.replace("_", " "), tuned_difference(found))
            for measure, found in tuned_measures(receipt).items()
        ],
        time="not measured" if spent is None else seconds(spent),
        losing=losing_cases(receipt),
    )


def _machine(receipts: Sequence[Row]) -> str:
    found = dict.fromkeys(
        printable(receipt.versions.get("machine", "")) for _, _, receipt in receipts
    )
    return "; ".join(item for item in found if item)


def _link(report: Path, directory: Path) -> str:
    page = report if report.suffix == ".html" else report / "report.html"
    return _relative(page, directory)


def _relative(page: Path, directory: Path) -> str:
    return quote(Path(os.path.relpath(page, directory)).as_posix(), safe="/")
