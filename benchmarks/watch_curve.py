"""What the cost of a cut says of the metric on rows that really changed, and what was true.

Every source with five trained models, each cut deeper or less: the curve is measured on rows of the
source alone, perturbed, as at a release. Quick: one source, one model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from record import RESULTS, record
from ssmith.core.files import write_text
from ssmith.core.settings import to_mapping
from ssmith.watch.curve import in_metric, row_losses
from ssmith.watch.inside import MEAN_COST, ModelPair, RowsSeen, look_at
from ssmith.watch.profile import ProfileConfig, take
from watch_cases import DEPTHS, Source, sources


def told(source: Source, seed: int) -> Iterator[dict[str, Any]]:
    """Yield, for each shift of a source, what the curve said and what the cut lost."""
    profile = take(
        source.model, source.held, dense=source.dense, plan=source.plan, task=source.task,
        config=ProfileConfig(sample=2 * source.profile, speed_seconds=0.0, seed=seed),
    )  # fmt: skip
    assert profile.curve is not None and profile.promise.dense is not None
    pair = ModelPair(model=source.model, dense=source.dense, task=source.task)
    level, metric = profile.promise.dense, source.task.metric

    def measured(seen: RowsSeen) -> float:
        losses, weight = row_losses(seen, metric)
        return in_metric(float(np.average(losses, weights=weight)), level, metric)

    held = look_at(pair, source.held)
    for what, rows in source.shifts.items():
        seen = look_at(pair, rows)
        loss = profile.curve.loss(seen.readings, level, metric, 0)
        yield {
            "case": what, "source": source.name, "seed": seed, **to_mapping(loss),
            "measured": measured(seen), "at_release": measured(held), "slack": profile.curve.slack,
            "distance": float(seen.readings["cut/answers/distance"].mean()),
            "cost": float(seen.readings[MEAN_COST].mean() / held.readings[MEAN_COST].mean()),
        }  # fmt: skip
    print(f"{source.name}, model {seed}", file=sys.stderr)


def inside(row: dict[str, Any]) -> bool:
    """Whether the interval holds what was measured."""
    return bool(row["low"] <= row["measured"] <= row["high"])


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table: of each case the first model, and how often all were right."""
    lines = [
        "| what changed | cost of the cut, times | loss told | loss measured | at release "
        "| inside, of the models | promised |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["seed"] == 0:
            own = [item for item in rows if item["case"] == row["case"]]
            lines.append(
                f"| {row['case']} | {row['cost']:.2f} | {row['value']:.2g} "
                f"[{row['low']:.2g}, {row['high']:.2g}] | {row['measured']:.2g} "
                f"| {row['at_release']:.2g} | {sum(map(inside, own))} of {len(own)} "
                f"| {row['level']:.0%} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    rows: list[dict[str, Any]] = []
    for seed in range(1 if quick else len(DEPTHS)):
        for source in sources(quick=quick, seed=seed):
            rows += told(source, seed)
    if not quick:
        write_text(RESULTS / "watch_loss.md", f"{table(rows)}\n")
    summary = {
        "inside": sum(map(inside, rows)), "of": len(rows),
        "promised": float(np.mean([row["level"] for row in rows])),
    }  # fmt: skip
    record("watch_curve", {"rows": rows}, summary, quick=quick)


if __name__ == "__main__":
    main()
