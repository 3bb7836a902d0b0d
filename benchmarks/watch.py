"""What a watch finds in rows that really changed, after how many, and how often for nothing.

Rows come in looks; each of many draws takes other rows for the profile and another order. The same
looks are given to a Kolmogorov–Smirnov test of each column and to Evidently's preset for drift.
Quick: one source, few draws, no Evidently.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from plots import Panel, draw
from record import RESULTS, record
from ssmith.core.files import write_text
from ssmith.watch.drift import KINDS, Alarms, counted, find_drift
from ssmith.watch.inputs import Readings, range_of, read_inputs
from ssmith.watch.inside import MEAN_COST, ModelPair, look_at
from ssmith.watch.removed import removed_by
from ssmith.watch.sketch import Sketch
from ssmith.watch.stream import Stream
from watch_cases import Source, sources

EVIDENTLY = Path(__file__).resolve().parents[1] / ".venv" / "evidently" / "bin" / "python"
RIVAL = Path(__file__).with_name("watch_rival.py")
DRAWS, QUICK_DRAWS, RIVAL_DRAWS = 20, 5, 5
LEVEL = 0.05
LEAST, LEAST_LOOKS = 50, 8
OURS, PLAIN, EVIDENT = "ssmith watch", "KS test of each column", "Evidently, preset"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Rows of a source that changed, or did not.

    Args:
        name: what changed, or the source.
        source: where the rows are from.
        changed: whether they did.
        held: readings of rows of the source.
        new: readings of the rows that come.
    """

    name: str
    source: Source
    changed: bool
    held: Readings
    new: Readings


def cases(*, quick: bool) -> list[Case]:
    """Return every case with what was read of its rows."""
    found = []
    for source in sources(quick=quick):
        pair = ModelPair(
            model=source.model, dense=source.dense, task=source.task,
            removed=removed_by(source.plan, source.dense)[0],
        )  # fmt: skip
        known = range_of(source.held)
        held = look_at(pair, source.held)
        readings = {**read_inputs(source.held, known, own=True), **held.readings}
        found.append(
            Case(name=source.name, source=source, changed=False, held=readings, new=readings)
        )
        for what, rows in source.shifts.items():
            seen = look_at(pair, rows)
            new = {**read_inputs(rows, known, own=False), **seen.readings}
            found.append(Case(name=what, source=source, changed=True, held=readings, new=new))
        print(f"read {source.name}", file=sys.stderr)
    return found


def check(case: Case) -> None:
    """Refuse a case that has too few rows for a profile and looks: its table row would be empty."""
    there, coming = len(case.held[MEAN_COST]), len(case.new[MEAN_COST])
    looks = (coming if case.changed else there - profile_of(case)) // case.source.look
    if profile_of(case) < LEAST or looks < LEAST_LOOKS:
        raise SystemExit(
            f"{case.name}: a profile of {profile_of(case)} rows and {looks} looks are too few"
        )


def drawn(case: Case, seed: int) -> tuple[Readings, list[Readings]]:
    """Return the profile's readings, and those of one look after the other."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(case.held[MEAN_COST]))
    profile, rest = np.split(order, [profile_of(case)])
    coming = random.permutation(len(case.new[MEAN_COST])) if case.changed else rest
    size = case.source.look
    parts = [coming[start : start + size] for start in range(0, len(coming) - size + 1, size)]
    looks = [{name: values[part] for name, values in case.new.items()} for part in parts]
    return {name: values[profile] for name, values in case.held.items()}, looks


def profile_of(case: Case) -> int:
    """Return the rows of a profile: half of those that are held back, where they are few."""
    return min(case.source.profile, len(case.held[MEAN_COST]) // 2)


def watched(profile: Readings, looks: list[Readings]) -> dict[str, int | None]:
    """Return after how many rows each kind of drift was found; None if it was not."""
    sketches = {name: Sketch.of(values) for name, values in profile.items()}
    found: dict[str, int | None] = dict.fromkeys(KINDS)
    stream, rows = Stream(), 0
    for number, readings in enumerate(looks):
        rows += len(readings[MEAN_COST])
        stream = stream.after(counted(sketches, readings, str(number), len(readings[MEAN_COST])))
        for item in find_drift(sketches, stream, readings, Alarms()):
            if item.alarm and found[item.kind] is None:
                found[item.kind] = rows
        if None not in found.values():
            break
    return found


def tested(profile: Readings, looks: list[Readings]) -> int | None:
    """Return after how many rows a KS test of a column, all rows so far, says p < level / columns.

    Columns are what is read of inputs and answers; nothing of the cut, and no care for looks.
    """
    columns = [name for name in profile if not name.startswith("cut/")]
    for number in range(1, len(looks) + 1):
        for name in columns:
            so_far = np.concatenate([look[name] for look in looks[:number]])
            if stats.ks_2samp(so_far, profile[name], method="asymp").pvalue < LEVEL / len(columns):
                return len(so_far)
    return None


def evident(found: list[Case], draws: int) -> dict[str, list[int | None]] | None:
    """Return the same of Evidently's preset on the same columns; None if it is not installed."""
    if not EVIDENTLY.is_file():
        return None
    with tempfile.TemporaryDirectory() as scratch:
        for place, case in enumerate(found):
            for seed in range(draws):
                profile, looks = drawn(case, seed)
                columns = [name for name in profile if not name.startswith("cut/")]
                np.savez(
                    f"{scratch}/{place}-{seed}.npz",
                    profile=np.stack([profile[name] for name in columns], 1),
                    rows=np.concatenate(
                        [np.stack([one[name] for name in columns], 1) for one in looks]
                    ),
                    look=case.source.look,
                )
        command = [str(EVIDENTLY), str(RIVAL), scratch]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    answers: dict[str, int | None] = json.loads(told.splitlines()[-1])
    return {
        case.name: [answers[f"{place}-{seed}"] for seed in range(draws)]
        for place, case in enumerate(found)
    }


def row_of(case: Case, draws: int) -> dict[str, Any]:
    """Return what all draws of a case found."""
    ours, plain, looks = [], [], 0
    for seed in range(draws):
        profile, parts = drawn(case, seed)
        ours.append(watched(profile, parts))
        plain.append(tested(profile, parts))
        looks += len(parts)
    print(f"watched {case.name}", file=sys.stderr)
    return {
        "case": case.name, "source": case.source.name, "changed": case.changed,
        "look": case.source.look, "profile": profile_of(case), "looks": looks, "draws": draws,
        "readings": len(case.held), "ours": ours, "plain": plain,
    }  # fmt: skip


def first(found: dict[str, int | None]) -> int | None:
    """Return when the first kind was found."""
    return min((rows for rows in found.values() if rows is not None), default=None)


def told(rows: list[int | None]) -> str:
    """Return in how many draws something was found, and after how many rows in the middle one."""
    there = [item for item in rows if item is not None]
    if not there:
        return "–"
    return f"{statistics.median(there):.0f} ({len(there)} of {len(rows)})"


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table: the losing cases first."""
    changed = sorted(
        (row for row in rows if row["changed"]),
        key=lambda row: (-sum(f["cut"] is None for f in row["ours"]), row["case"]),
    )
    head = ["what changed", "cut", "inputs", "answers", "any of ours", PLAIN, EVIDENT]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in [*changed, *(row for row in rows if not row["changed"])]:
        name = row["case"] if row["changed"] else f"nothing ({row['source']})"
        cells = [told([item[kind] for item in row["ours"]]) for kind in ("cut", "input", "output")]
        cells += [told([first(item) for item in row["ours"]]), told(row["plain"])]
        cells.append("not measured" if row["evidently"] is None else told(row["evidently"]))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]]) -> None:
    """Write the figure of shares of draws that found a shift, over rows."""
    changed = [row for row in rows if row["changed"]]
    panels = []
    for row in changed:
        most = max([item for one in row["ours"] for item in one.values() if item is not None],
                   default=row["look"])  # fmt: skip
        at = [row["look"] * step for step in range(1, most // row["look"] + 2)]
        kinds = {"the cut": "cut", "inputs": "input", "answers": "output"}
        series = {}
        for what, kind in kinds.items():
            found = [item[kind] for item in row["ours"]]
            shares = [100 * float(np.mean([r is not None and r <= x for r in found])) for x in at]
            series[what] = [(x, share, share, share) for x, share in zip(at, shares, strict=True)]
        panels.append(Panel(title=row["case"], series=series))
    draw("watch", panels, ("rows", "draws that found it, %"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    found = cases(quick=quick)
    for case in found:
        check(case)
    rows = [row_of(case, QUICK_DRAWS if quick else DRAWS) for case in found]
    # The rival is slow: what is ours is kept before it begins.
    store([{**row, "evidently": None} for row in rows], quick=quick)
    rival = None if quick else evident(found, RIVAL_DRAWS)
    if rival is not None:
        store([{**row, "evidently": rival[row["case"]]} for row in rows], quick=quick)


def store(rows: list[dict[str, Any]], *, quick: bool) -> None:
    """Write the tables, the figure and the raw results; end with one line of JSON."""
    if not quick:
        write_text(RESULTS / "watch.md", f"{table(rows)}\n")
        plot(rows)
    changed, same = ([row for row in rows if row["changed"] is flag] for flag in (True, False))
    summary = {
        "found": sum(first(item) is not None for row in changed for item in row["ours"]),
        "of": sum(row["draws"] for row in changed),
        "cut_found": sum(item["cut"] is not None for row in changed for item in row["ours"]),
        "false": sum(first(item) is not None for row in same for item in row["ours"]),
        "false_of": sum(row["draws"] for row in same),
        "false_plain": sum(item is not None for row in same for item in row["plain"]),
    }
    record("watch", {"rows": rows}, summary, quick=quick)


if __name__ == "__main__":
    main()
