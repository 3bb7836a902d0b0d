"""What refits cost, and what cut models gain: seconds and bytes per layer, speed of cut models.

Layers of 256 conjugate pairs, in one direction of time and in both, on 64 sequences of 128 steps.
Full: also S5 and S4D reference models with 80 and 90 % of their states removed by State-OBS, timed
against the dense ones in turns. Quick: the layers alone.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import torch

from record import RESULTS, record
from ssmith import api
from ssmith.allocate import allocate
from ssmith.artefact import EMBEDDED
from ssmith.calibrate import measure_moments
from ssmith.core.budget import Budget
from ssmith.core.compensation import Poles, RefitConfig
from ssmith.core.files import write_text
from ssmith.core.layers import Modes
from ssmith.core.moments import Moments
from ssmith.core.sequences import Sequences
from ssmith.core.settings import to_mapping
from ssmith.criteria import StateOBS
from ssmith.evaluation import SpeedConfig, measure_speed
from ssmith.evaluation.memory import peak_bytes
from ssmith.families import SequenceConfig, SequenceModel, find_layers
from ssmith.families.lti import LTIOptions
from ssmith.jobs.source import Calibration
from ssmith.spine.lti import StatePlanner, method_of
from ssmith.spine.refit import refit_by_layer
from ssmith.surgery import reduce_modes, refit_readout

PAIRS, WIDTH = 256, 64
SEQUENCES, STEPS = 64, 128
MODELS = ("digits-s5", "listops-s5", "leaf-s4d")
RATIOS = (0.8, 0.9)
REDUCTIONS: dict[str, Poles] = {
    "balanced truncation": "balanced",
    "singular perturbation": "perturbation",
    "H2 descent": "h2",
}
BATCH = 32


def one_layer(pairs: int, *, two_way: bool) -> SequenceModel:
    config = SequenceConfig(
        family="s5", width=WIDTH, states=(pairs,), blocks=8, channels=1, outputs=2,
        task="regression", options=LTIOptions(bidirectional=two_way),
    )  # fmt: skip
    return SequenceModel(config, torch.Generator().manual_seed(0)).eval()


def noise(steps: int) -> Sequences:
    x = torch.randn(SEQUENCES, steps, 1, generator=torch.Generator().manual_seed(1))
    return Sequences(x=x, lengths=torch.full((SEQUENCES,), steps), y=torch.zeros(SEQUENCES, 2))


def seconds_of(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return round(time.perf_counter() - begin, 3)


def layer_costs(*, two_way: bool) -> dict[str, Any]:
    """Time every part of cutting one layer to a fifth of its states."""
    model, part = one_layer(PAIRS, two_way=two_way), noise(STEPS)
    ((name, layer),) = find_layers(model).items()
    modes: Modes = layer.modes(name)
    found: dict[str, Moments] = {}
    times = {"moments on sequences": seconds_of(lambda: found.update(measure_moments(model, part)))}
    scores = []
    times["State-OBS scores"] = seconds_of(lambda: scores.append(StateOBS()([modes], found)))
    cut, _ = allocate(scores[0], Budget("state", 0.8))
    keep = cut.keep[name].reshape(-1)
    usual = RefitConfig()
    times["read-out"] = seconds_of(
        lambda: refit_readout(modes, found[name], keep, usual, width=WIDTH)
    )
    full = RefitConfig(direct=True, rounds=2)
    times["input rows, read-out and D, two rounds"] = seconds_of(
        lambda: refit_by_layer(model, cut, part, full)
    )
    for label, poles in REDUCTIONS.items():
        config = RefitConfig(poles=poles)
        times[label] = seconds_of(
            lambda c=config: reduce_modes(modes, found[name], keep, c, width=WIDTH)
        )
    return {"pairs": PAIRS, "bidirectional": two_way, "seconds": times}


def held(pairs: int, steps: int) -> dict[str, int]:
    """Return the bytes that moments are, and the most that measuring them held at once."""
    model, part = one_layer(pairs, two_way=False), noise(steps)
    (moments,) = measure_moments(model, part).values()
    own = sum(v.numel() * v.element_size() for v in vars(moments).values() if torch.is_tensor(v))
    peak = peak_bytes(lambda: measure_moments(model, part))
    return {"pairs": pairs, "steps": steps, "bytes_kept": own, "bytes_at_once": peak}


def model_speeds(seconds: float) -> list[dict[str, Any]]:
    """Time shipped models against their own cuts."""
    rows = []
    for name in MODELS:
        model = api.load(f"{EMBEDDED}{name}")
        data = api.load_data(f"{EMBEDDED}{name.partition('-')[0]}", model)
        part, batch = Calibration().draw(data), data.split("test").first(BATCH)
        method = method_of(Budget("state", 0.5, method="state-obs"), has_data=True)
        planner = StatePlanner(model, method, part)
        for ratio in RATIOS:
            plan = planner.plan(Budget("state", ratio, method="state-obs"))
            small = copy.deepcopy(model)
            api.prune_(small, plan)
            config = SpeedConfig(seconds=seconds, threads=1, step_batch_size=BATCH)
            speed = measure_speed(model, small, batch, config=config)
            step = speed.per_step
            rows.append(
                {
                    "model": name,
                    "removed": plan.cut("state").sparsity,
                    "forward_speedup": round(speed.per_batch.speedup, 3),
                    "step_speedup": None if step is None else round(step.speedup, 3),
                    "speed": to_mapping(speed.section()),
                }
            )
    return rows


def table(layers: list[dict[str, Any]], memory: list[dict[str, int]], speeds: list[Any]) -> str:
    names = list(layers[0]["seconds"])
    lines = [
        f"Seconds per S5 layer of {PAIRS} pairs and {WIDTH} channels, {SEQUENCES} sequences of "
        f"{STEPS} steps, one thread, cut to a fifth of its states.",
        "",
        "| what | one direction | both directions |",
        "|---|---|---|",
        *(
            f"| {k} | {layers[0]['seconds'][k]:.2f} | {layers[1]['seconds'][k]:.2f} |"
            for k in names
        ),
        "",
        "Moments are all that is kept of the sequences where read-outs alone are refitted: O(P²) "
        "for P pairs, whatever the length. While one batch is summed its states are held as well.",
        "",
        "| pairs | steps | bytes kept | bytes at once |",
        "|---|---|---|---|",
        *(
            f"| {row['pairs']} | {row['steps']} | {row['bytes_kept']:,} "
            f"| {row['bytes_at_once']:,} |"
            for row in memory
        ),
    ]
    if speeds:
        lines += [
            "",
            "Speed of whole models (encoder, gates and head included) cut by State-OBS, in turns "
            f"with the dense ones: {BATCH} test sequences, one thread. A model that runs in both "
            "directions has no step.",
            "",
            "| model | removed | forward, times as fast | step, times as fast |",
            "|---|---|---|---|",
        ]
        for row in speeds:
            step = "–" if row["step_speedup"] is None else f"{row['step_speedup']:.2f}"
            lines.append(
                f"| {row['model']} | {100 * row['removed']:.0f} % | {row['forward_speedup']:.2f} "
                f"| {step} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    layers = [layer_costs(two_way=two_way) for two_way in (False, True)]
    memory = [held(*item) for item in ((64, 128), (128, 128), (256, 128), (256, 512))]
    speeds = [] if options.quick else model_speeds(1.5)
    summary = {
        "seconds_to_score_256_pairs": layers[1]["seconds"]["State-OBS scores"],
        "bytes_kept_256_pairs": memory[2]["bytes_kept"],
        "forward_speedup_at_0.9": {
            row["model"]: row["forward_speedup"] for row in speeds if row["removed"] > 0.85
        },
    }
    if not options.quick:
        write_text(RESULTS / "obs_cost.md", table(layers, memory, speeds))
    raw = {"layers": layers, "memory": memory, "speeds": speeds, "threads": 1}
    record("obs_cost", raw, summary, quick=options.quick)


if __name__ == "__main__":
    main()
