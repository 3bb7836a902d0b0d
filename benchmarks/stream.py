"""One step of many sources at a time, against running the whole window anew, and a plain loop.

The plain loop is what somebody writes around `SequenceModel.step` for one source after another;
the whole window is what somebody does whose model has no steps. The rival of the same width is two
GRU cells of torch, which have a state as well.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from record import record
from ssmith.core.files import finite_or_none
from ssmith.core.settings import to_mapping
from ssmith.evaluation import time_pair
from ssmith.families import LTIOptions, SequenceConfig, SequenceModel
from ssmith.serving import stream

CHANNELS = 4
FULL, QUICK = (256, (1, 100, 5000)), (64, (1, 200))
"""Steps of a window, and numbers of sources."""


def model_of(family: str) -> SequenceModel:
    config = SequenceConfig(
        family=family, width=64, states=(32, 32), channels=CHANNELS, outputs=4,
        initialisation="hippo", options=LTIOptions(),
    )  # fmt: skip
    torch.manual_seed(0)
    return SequenceModel(config, torch.Generator().manual_seed(0)).eval()


def difference(model: SequenceModel, window: int) -> float:
    """Return the largest difference between the stream and whole sequences."""
    x = torch.randn(7, window, CHANNELS, generator=torch.Generator().manual_seed(1))
    served, names = stream(model), list(map(str, range(7)))
    for step in x.unbind(1):
        out = served.step(step, names).outputs
    with torch.no_grad():
        return float((out - model(x)).abs().max())


@torch.no_grad()
def row(family: str, sources: int, window: int, seconds: float) -> dict[str, Any]:
    """Time a step of all sources three ways, the pairs in turns."""
    model = model_of(family)
    x = torch.randn(sources, window, CHANNELS)
    names = list(map(str, range(sources)))
    served = stream(model)
    served.step(x[:, 0], names)
    states = [model.initial_state(1) for _ in range(min(sources, 100))]

    def step() -> Any:
        return served.step(x[:, 1], names)

    def one_by_one() -> None:
        for place, state in enumerate(states):
            model.step(x[place, 1:2], state)

    gru, hidden = torch.nn.GRUCell(CHANNELS, 64), torch.zeros(sources, 64)
    second, head = torch.nn.GRUCell(64, 64), torch.nn.Linear(64, 4)

    def recurrent() -> Any:
        return head(second(gru(x[:, 1], hidden), hidden))

    whole = time_pair(lambda: model(x), step, seconds=seconds)
    plain = time_pair(one_by_one, step, seconds=seconds)
    rival = time_pair(recurrent, step, seconds=seconds)
    # The loop is timed on a hundred sources at most, and grows with their number.
    loop = plain.medians[0] * sources / len(states)
    return {
        "family": family,
        "sources": sources,
        "steps_per_second": round(sources / whole.medians[1]),
        "whole_over_step": whole.medians[0] / whole.medians[1],
        "loop_over_step": loop / plain.medians[1],
        "gru_over_step": rival.medians[0] / rival.medians[1],
        "gru_steps_per_second": round(sources / rival.medians[0]),
        "whole": to_mapping(whole.section()),
        "gru": to_mapping(rival.section()),
        "loop": to_mapping(plain.section()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds = 0.3 if options.quick else 5.0
    window, counts = QUICK if options.quick else FULL
    rows = [row(family, count, window, seconds) for family in ("s5", "s4d") for count in counts]
    most = [item for item in rows if item["sources"] == counts[-1]]
    summary = {
        "window": window,
        "sources": counts[-1],
        "difference": max(difference(model_of(family), window) for family in ("s5", "s4d")),
        "steps_per_second": {item["family"]: item["steps_per_second"] for item in most},
        "whole_over_step": {
            item["family"]: finite_or_none(round(item["whole_over_step"], 1)) for item in most
        },
        "gru_steps_per_second": {item["family"]: item["gru_steps_per_second"] for item in most},
        "gru_over_step": {
            item["family"]: finite_or_none(round(item["gru_over_step"], 2)) for item in most
        },
        "loop_over_step": {
            item["family"]: finite_or_none(round(item["loop_over_step"], 1)) for item in most
        },
    }
    record("stream", {"rows": rows, "threads": options.threads}, summary, quick=options.quick)


if __name__ == "__main__":
    main()
