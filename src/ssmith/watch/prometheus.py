"""The last look as a text file for Prometheus' node exporter."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from ssmith.core.files import write_text
from ssmith.core.looks import LookFound, LookReceipt

KINDS = ("cut", "input", "output", "quality", "speed")
Sample = tuple[dict[str, str], float]


def write_metrics(path: Path, watched: LookReceipt) -> None:
    """Write the metrics of a look to a ``.prom`` file, as the textfile collector wants it."""
    write_text(path, metrics_of(watched))


def metrics_of(watched: LookReceipt) -> str:
    """Return the metrics of a look in Prometheus' text format, labelled by line and version."""
    base = {"line": watched.line, "version": watched.version}
    found = watched.look
    text: list[str] = []
    for name, about, samples in _gauges(found):
        text.append(f"# HELP ssmith_watch_{name} {about}")
        text.append(f"# TYPE ssmith_watch_{name} gauge")
        for labels, value in samples:
            pairs = ",".join(f'{key}="{_escaped(v)}"' for key, v in {**base, **labels}.items())
            text.append(f"ssmith_watch_{name}{{{pairs}}} {value!r}")
    return "\n".join(text) + "\n"


def _gauges(found: LookFound) -> Iterable[tuple[str, str, list[Sample]]]:
    moment = datetime.fromisoformat(found.time).timestamp()
    alarms = [item.kind for item in found.findings if item.alarm]
    yield (
        "alarm", "1 if a look found an alarm of this kind.",
        [({"kind": kind}, float(kind in alarms)) for kind in KINDS],
    )  # fmt: skip
    yield "last_look_timestamp_seconds", "Time of the last look.", [({}, moment)]
    yield "looks", "Looks at this profile so far.", [({}, float(found.number))]
    yield "rows", "Rows of the last look.", [({}, float(found.rows))]
    drifts = [
        ({"kind": item.kind, "place": item.place, "reading": item.what}, item.distance)
        for item in found.drifts
    ]
    yield "drift", "Largest difference of shares of rows, of the surest drifts.", drifts
    if found.cut is not None:
        sites = [
            ({"site": name}, site.times[0])
            for name, site in found.cut.sites.items()
            if site.times is not None
        ]
        yield "cut_cost_ratio", "What the cut costs on a row now, over what at release.", sites
        yield (
            "disagreement", "How often answers differ from the dense model's.",
            [({}, found.cut.disagree)],
        )  # fmt: skip
        if found.cut.loss is not None:
            ends = {"estimate": found.cut.loss.value, "low": found.cut.loss.low,
                    "high": found.cut.loss.high}  # fmt: skip
            yield (
                "cut_loss", "Loss of the metric that the cost of the cut points to.",
                [({"end": name}, value) for name, value in ends.items()],
            )  # fmt: skip
    if found.quality is not None:
        label = {"metric": found.quality.metric}
        yield "quality", "The metric on labelled rows.", [(label, found.quality.now)]
        yield "quality_promised", "The metric at release.", [(label, found.quality.promised)]
    if not found.speed.why_not:
        yield "pass_seconds", "Median seconds of a forward pass.", [({}, found.speed.seconds)]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
