"""What each tuning method costs: a training step, its memory, a decoded step, merging.

On the base of the tuning benchmark. Training steps of 8 rows of 256 bytes, as a multiple of LoRA on
the modules that the literature adapts; decoded steps of 8 sequences with the adapter attached, as a
multiple of the base without one. Models take turns, so that a machine whose speed drifts treats
them alike; peaks of memory are those of a process each, in the warm-up where there is one, as it
trains whole weights. Quick: the smaller base, four methods.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Any

import torch
from torch import nn

from record import RESULTS, record
from ssmith import api
from ssmith.core.files import read_json, write_text
from ssmith.core.words import number_of
from ssmith.families.hf.engine import accelerate_
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.tune.adapters import attach_, from_plain, recounted, select_, warming
from ssmith.tune.adapters.merge import MERGES, unmergeable
from tune import decoder, in_turns, peak_of, ratio, stepper
from tuning_setup import BATCH, METHODS, MUON, base_model, methods_for, searched

AGAINST = "LoRA dt_proj, x_proj"
BASE = "no adapter"
LENGTH, DECODED = 256, 32
QUICK = ("state-offset (h)", "LoRA out_proj", "core", AGAINST)
MERGED = {"stock": "weights", "ssmith": "state that ssmith reads", "": "stays beside"}


def names(*, quick: bool) -> list[str]:
    """Return the methods; the optimiser changes a step by less than it varies."""
    own = [name for name in searched(methods_for("language", leading=False)) if name not in MUON]
    return list(QUICK) if quick else own


def adapted(model: str, name: str, *, warmed: bool) -> tuple[nn.Module, dict[str, Any]]:
    """Return a model with an adapter, and what that stores and becomes when it is merged."""
    loaded = api.load(model)
    report = attach_(loaded, [from_plain(item) for item in METHODS[name]])
    if warmed and warming(loaded):
        stepper(loaded, batch=BATCH, length=LENGTH)()
        select_(loaded)
        report = recounted(loaded, report)
    merges = next(
        (form for form in MERGES if not unmergeable(loaded, "default", hold=form != MERGES[0])), ""
    )
    return loaded, {"trained": report.parameters, "stored": report.stored, "merges": merges}


def measure(model: str, *, quick: bool) -> dict[str, Any]:
    """Return times, peaks and facts of every method."""
    own, rounds = names(quick=quick), 3 if quick else 9
    base = api.load(model)
    accelerate_(base)
    models = {name: adapted(model, name, warmed=True) for name in own}
    size = {"batch": BATCH, "steps": DECODED}
    decoders = {name: decoder(found, **size) for name, (found, _) in models.items()}
    plain = in_turns({BASE: decoder(base, **size), **decoders}, rounds)
    steps = {
        name: stepper(found, batch=BATCH, length=LENGTH) for name, (found, _) in models.items()
    }
    training = in_turns(dict(steps), rounds)
    peaks = {}
    for name in own:
        command = [sys.executable, __file__, "--model", model, "--peak-of", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[name] = int(done.stdout.splitlines()[-1])
    return {
        "facts": {name: facts for name, (_, facts) in models.items()},
        "step_seconds": training, "decode_seconds": plain, "peak_bytes": peaks,
    }  # fmt: skip


def summed(raw: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the ratios of every method."""
    peaks = raw["peak_bytes"]
    return {
        name: {
            "step": ratio(raw["step_seconds"], name, AGAINST),
            "peak": round(peaks[name] / peaks[AGAINST], 3),
            "decode": ratio(raw["decode_seconds"], name, BASE),
        }
        for name in raw["facts"]
    }


def table(raw: dict[str, Any]) -> str:
    """Render stored results as Markdown."""
    found = raw["summary"]["ratios"]
    lines = [
        f"Training steps and their peaks of memory as multiples of {AGAINST}, decoded steps of "
        f"{BATCH} sequences as multiples of the base without an adapter, all on the engine; "
        f"medians of {len(raw['decode_seconds'][BASE])} rounds in turns, "
        f"{number_of(raw['threads'], 'thread')}, {raw['versions']['machine']}. What is merged into "
        "weights costs nothing more when it runs.",
        "",
        "| method | trained | stored | training step | peak memory | decoded step | merged into |",
        "|---" * 7 + "|",
    ]
    for name, facts in sorted(raw["facts"].items(), key=lambda item: found[item[0]]["step"]):
        row = found[name]
        lines.append(
            f"| {name} | {facts['trained']:,} | {facts['stored']:,} | {row['step']:.2f} | "
            f"{row['peak']:.2f} | {row['decode']:.2f} | {MERGED[facts['merges']]} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", help="another byte-level Mamba as the base")
    parser.add_argument("--peak-of", choices=tuple(METHODS))
    options = parser.parse_args()
    tune_allocator_()
    torch.set_num_threads(1)
    model = options.model or base_model(quick=options.quick)
    if options.peak_of:
        cold, _ = adapted(model, options.peak_of, warmed=False)
        print(peak_of(stepper(cold, batch=BATCH, length=LENGTH)))
        return
    raw = measure(model, quick=options.quick) | {"threads": torch.get_num_threads()}
    raw["summary"] = {"ratios": summed(raw)}
    record("tuning_costs", raw, raw["summary"], quick=options.quick)
    if not options.quick:
        write_text(RESULTS / "tuning_costs.md", table(read_json(RESULTS / "tuning_costs.json")))


if __name__ == "__main__":
    main()
