"""Calibration of one selective layer against the released procedure, and what smaller states gain.

One Mamba layer of width 768, 16 states, 2,048 tokens, float32, CPU. Every measurement runs in a
process of its own, so that its peak memory is its own; each pair once with the allocator as it
comes and once tuned alike on both sides. In the reproducing mode the masks must be identical.
Quick: small sizes, which exercise every line and prove nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

import official_sparsessm
from record import record
from ssmith.allocate.selective import keep_entries
from ssmith.criteria.selective import OutputEnergy, SelectiveCriterion, SparseSSM, SparseSSMVotes
from ssmith.families.hf import engine
from ssmith.families.hf.selective import SelectiveLayer, find_selective
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.ops.selective_scan import ScanInputs, selective_scan

FRACTION = 0.5


@dataclass(frozen=True)
class Sizes:
    width: int
    length: int
    samples: int
    repeats: int
    scan: tuple[int, int]
    layers: int


FULL = Sizes(width=768, length=2048, samples=3, repeats=5, scan=(2048, 1536), layers=4)
QUICK = Sizes(width=64, length=128, samples=3, repeats=3, scan=(128, 128), layers=2)


def model(sizes: Sizes, layers: int = 1, states: int = 16) -> Any:
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=256, hidden_size=sizes.width, num_hidden_layers=layers, state_size=states
    )
    return transformers.MambaForCausalLM(config).eval()


def ours(layer: SelectiveLayer, samples: torch.Tensor, criterion: SelectiveCriterion) -> Any:
    """Collect, prune and run again, as a walk does with one layer."""
    weights = layer.weights()
    removed = round(FRACTION * layer.e * layer.n)
    sums = criterion.gather_entries(layer.parts(samples).scan, weights, removed)
    keep = keep_entries(criterion.entries(sums, weights), weights.present, removed)
    layer.cut_entries_(keep, "unit-decay")
    return keep, layer.mixer(samples)


def forwards(layer: SelectiveLayer, samples: torch.Tensor) -> None:
    """The same two passes with nothing gathered: what no method can do without."""
    selective_scan(layer.parts(samples).scan)
    layer.mixer(samples)


RUNS = {
    "reproducing": SparseSSM(), "voting": SparseSSMVotes(), "default": OutputEnergy(),
}  # fmt: skip


@torch.no_grad()
def one_run(name: str, sizes: Sizes, mask: Path) -> dict[str, Any]:
    """Measure one way to calibrate; seconds per sequence, and the peak of this process."""
    base = model(sizes)
    state = {key: value.clone() for key, value in base.state_dict().items()}
    samples = torch.randn(
        sizes.samples, sizes.length, sizes.width, generator=torch.Generator().manual_seed(1)
    )
    times = []
    with engine(base):
        for _ in range(2 if name == "plain" else sizes.repeats + 1):
            base.load_state_dict(state)
            layer = fresh(base)
            start = time.perf_counter()
            if name == "plain":
                keep, _ = official_sparsessm.prune(layer.mixer, samples, FRACTION)
            elif name == "dense":
                keep = None
                forwards(layer, samples)
            else:
                keep, _ = ours(layer, samples, RUNS[name])
            times.append(time.perf_counter() - start)
    if keep is not None:
        torch.save(keep, mask)
    return {
        "seconds": statistics.median(times[1:]) / sizes.samples,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def fresh(base: Any) -> SelectiveLayer:
    """Return the layer without the masks of the run before."""
    layer = next(iter(find_selective(base).values()))
    for name in [name for name in layer.mixer._buffers if name.startswith("ssmith")]:
        delattr(layer.mixer, name)
    layer.mixer.ssmith_semantics = None
    return layer


def median(call: Callable[[], Any], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.no_grad()
def structured(sizes: Sizes) -> dict[str, float]:
    """Time of the scan after a cut as a share of before, and of a whole model at 16 → 8."""
    length, e = sizes.scan
    found = {}
    for before, after in ((16, 8), (64, 32), (128, 64)):
        scans = [partial(selective_scan, scan_inputs(length, e, n)) for n in (before, after)]
        found[f"scan_{before}_to_{after}"] = ratio(scans[0], scans[1], sizes.repeats)
    ids = torch.randint(0, 256, (1, length), generator=torch.Generator().manual_seed(0))
    whole, half = model(sizes, sizes.layers, 16), model(sizes, sizes.layers, 8)
    with engine(whole), engine(half):
        runs = [partial(each, ids, use_cache=False) for each in (whole, half)]
        return {**found, "whole_model_16_to_8": ratio(runs[0], runs[1], sizes.repeats)}


def ratio(before: Callable[[], Any], after: Callable[[], Any], repeats: int) -> float:
    """Median time of the second call as a share of the first's, in alternation."""
    return statistics.median(median(after, 3) / median(before, 3) for _ in range(repeats))


def scan_inputs(length: int, e: int, n: int) -> ScanInputs:
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    return ScanInputs(
        x=normal(1, length, e), dt=normal(1, length, e), z=normal(1, length, e),
        B=normal(1, length, n), C=normal(1, length, n), D=torch.ones(e),
        A=-torch.arange(1.0, n + 1).repeat(e, 1), dt_bias=torch.full((e,), -4.0), dt_softplus=True,
    )  # fmt: skip


def child(arguments: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *arguments], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(*, quick: bool) -> dict[str, Any]:
    """Run every measurement in its own process, and compare the masks."""
    raw: dict[str, Any] = {}
    size = ["--quick"] if quick else []
    with tempfile.TemporaryDirectory() as directory:
        for allocator in ("out of the box", "tuned"):
            tuned = ["--tuned"] if allocator == "tuned" else []
            raw[allocator] = {}
            for name in ("plain", "reproducing", "voting", "default", "dense"):
                mask = Path(directory) / f"{name}.pt"
                raw[allocator][name] = child(["--run", name, "--mask", str(mask), *size, *tuned])
                print(allocator, name, raw[allocator][name], file=sys.stderr)
            masks = [torch.load(Path(directory) / f"{n}.pt") for n in ("plain", "reproducing")]
            if not torch.equal(*masks):
                different = int((masks[0] != masks[1]).sum())
                raise SystemExit(f"{different} of {masks[0].numel()} entries are masked otherwise")
    raw["structured"] = child(["--structured", *size, "--tuned"])
    return raw


def summarise(raw: dict[str, Any]) -> dict[str, Any]:
    plain, tuned = raw["out of the box"], raw["tuned"]
    return {
        "calibration_vs_plain": round(
            plain["plain"]["seconds"] / plain["reproducing"]["seconds"], 1
        ),
        "calibration_vs_plain_tuned": round(
            tuned["plain"]["seconds"] / tuned["reproducing"]["seconds"], 1
        ),
        "voting_overhead": round(tuned["voting"]["seconds"] / tuned["reproducing"]["seconds"], 2),
        "statistics_overhead": round(
            tuned["default"]["seconds"] / tuned["dense"]["seconds"] - 1, 2
        ),
        "peak_gb": round(plain["reproducing"]["peak_gb"], 2),
        "peak_gb_plain": round(plain["plain"]["peak_gb"], 2),
        "masks_identical": True,
        **{name: round(value, 2) for name, value in raw["structured"].items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--run", choices=("plain", "dense", *RUNS))
    parser.add_argument("--structured", action="store_true")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--mask", type=Path)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.tuned:
        tune_allocator_()
    if options.run:
        print(json.dumps(one_run(options.run, sizes, options.mask)))
    elif options.structured:
        print(json.dumps(structured(sizes)))
    else:
        raw = measure(quick=options.quick)
        raw["threads"] = torch.get_num_threads()
        record("calibration", raw, summarise(raw), quick=options.quick)


if __name__ == "__main__":
    main()
