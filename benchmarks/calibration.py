"""Calibration of one selective layer against the released procedure, and what smaller states gain.

One Mamba layer of width 768, 16 states, 2,048 tokens, float32, CPU. Every measurement runs in a
process of its own, so that its peak memory is its own, and takes its turn in several rounds, whose
median counts: memory is faster in one process than in the next. All of it once with the allocator
as it comes and once tuned alike on both sides. In the reproducing mode the masks must be identical.
The floor of all of them is one dense forward pass of the layer per sequence, whose products no
method can do without; it is measured and told beside the ratios. Quick: small sizes, which exercise
every line and prove nothing.
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
from concurrent.futures import ThreadPoolExecutor
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
from ssmith.families.mamba.family import cut_
from ssmith.families.mamba.selective import Branches, SelectiveLayer
from ssmith.families.registry import find_selective
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.ops.reuse import reused_memory
from ssmith.ops.selective_scan import ScanInputs, selective_scan

FRACTION = 0.5


@dataclass(frozen=True)
class Sizes:
    width: int
    length: int
    samples: int
    repeats: int
    rounds: int
    scan: tuple[int, int]
    layers: int


FULL = Sizes(width=768, length=2048, samples=3, repeats=15, rounds=5, scan=(2048, 1536), layers=4)
QUICK = Sizes(width=64, length=128, samples=3, repeats=3, rounds=1, scan=(128, 128), layers=2)


def model(sizes: Sizes, layers: int = 1, states: int = 16) -> Any:
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=256, hidden_size=sizes.width, num_hidden_layers=layers, state_size=states
    )
    return transformers.MambaForCausalLM(config).eval()


def ours(layer: SelectiveLayer, samples: torch.Tensor, criterion: SelectiveCriterion) -> Any:
    """Collect, prune and run again, as a walk with one window a batch does with one layer."""
    branches, weights = layer.branches(samples), layer.weights()
    removed = round(FRACTION * layer.e * layer.n)
    scoring = criterion.entries
    sums = scoring.gather(layer.parts_of(branches).scan, weights, removed) if scoring.gather else {}
    keep = keep_entries(scoring.score(sums, weights), weights.present, removed)
    cut_(layer, "entry", keep, semantics="unit-decay")
    return keep, handed_on(layer, branches)


def forwards(layer: SelectiveLayer, samples: torch.Tensor) -> list[torch.Tensor]:
    """The same two looks at a layer with nothing gathered: what statistics are added to."""
    branches = layer.branches(samples)
    selective_scan(layer.parts_of(branches).scan)
    return handed_on(layer, branches)


def handed_on(layer: SelectiveLayer, branches: Branches) -> list[torch.Tensor]:
    """What the next layer is given, window by window."""
    rows = range(len(branches.x))
    return [layer.output(branches.rows(slice(row, row + 1))) for row in rows]


RUNS = {
    "reproducing": SparseSSM(), "voting": SparseSSMVotes(), "default": OutputEnergy(),
}  # fmt: skip
PLAIN = {"plain": "einsum", "plain, broadcast": "broadcast"}
BARE = {
    "dense": forwards,
    "one dense forward": lambda layer, samples: layer.mixer(samples),
}


@torch.no_grad()
def one_run(name: str, sizes: Sizes, mask: Path) -> dict[str, Any]:
    """Measure one way to calibrate; seconds per sequence, and the peak of this process."""
    base = model(sizes)
    state = {key: value.clone() for key, value in base.state_dict().items()}
    samples = torch.randn(
        sizes.samples, sizes.length, sizes.width, generator=torch.Generator().manual_seed(1)
    )
    times = []
    # As a walk over a model's blocks does.
    with engine(base), reused_memory():
        for _ in range(3 if name in PLAIN else sizes.repeats + 1):
            base.load_state_dict(state)
            layer = fresh(base)
            keep = None
            start = time.perf_counter()
            if name in PLAIN:
                keep, _ = official_sparsessm.prune(layer.mixer, samples, FRACTION, PLAIN[name])
            elif name in BARE:
                BARE[name](layer, samples)
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
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*PLAIN, *RUNS, *BARE)}

            def measured(
                name: str, tuned: list[str] = tuned, directory: str = directory
            ) -> dict[str, Any]:
                mask = str(Path(directory) / f"{name}.pt")
                return child(["--run", name, "--mask", mask, *size, *tuned])

            for turn in range((QUICK if quick else FULL).rounds):
                # Most of a quick run is the start of its processes.
                with ThreadPoolExecutor(2 if quick else 1) as pool:
                    for name, run in zip(found, pool.map(measured, found), strict=True):
                        found[name].append(run)
                        print(allocator, turn, name, run, file=sys.stderr)
            raw[allocator] = {name: joined(runs) for name, runs in found.items()}
            mine = torch.load(Path(directory) / "reproducing.pt")
            for name in PLAIN:
                theirs = torch.load(Path(directory) / f"{name}.pt")
                if not torch.equal(mine, theirs):
                    different = int((mine != theirs).sum())
                    raise SystemExit(f"{different} of {mine.numel()} entries are masked otherwise")
    raw["structured"] = child(["--structured", *size, "--tuned"])
    return raw


def joined(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median time of several rounds, beside the highest peak."""
    seconds = [run["seconds"] for run in runs]
    return {
        "seconds": statistics.median(seconds),
        "rounds": seconds,
        "peak_gb": max(run["peak_gb"] for run in runs),
    }


def summarise(raw: dict[str, Any]) -> dict[str, Any]:
    both = {"": raw["out of the box"], "_tuned": raw["tuned"]}
    found: dict[str, Any] = {}
    for suffix, runs in both.items():
        seconds = {name: run["seconds"] for name, run in runs.items()}
        found |= {
            f"calibration_vs_plain{suffix}": seconds["plain"] / seconds["reproducing"],
            f"calibration_vs_broadcast{suffix}": seconds["plain, broadcast"]
            / seconds["reproducing"],
            f"at_most_vs_plain{suffix}": seconds["plain"] / seconds["one dense forward"],
            f"nothing_gathered_vs_plain{suffix}": seconds["plain"] / seconds["dense"],
            f"of_one_dense_forward{suffix}": seconds["reproducing"] / seconds["one dense forward"],
        }
    tuned = {name: run["seconds"] for name, run in raw["tuned"].items()}
    peaks = {name: run["peak_gb"] for name, run in raw["out of the box"].items()}
    return {
        **{name: round(value, 1) for name, value in found.items()},
        "voting_overhead": round(tuned["voting"] / tuned["reproducing"], 2),
        "statistics_overhead": round(tuned["default"] / tuned["dense"] - 1, 2),
        "peak_gb": round(peaks["reproducing"], 2),
        "peak_gb_plain": round(peaks["plain"], 2),
        "masks_identical": True,
        **{name: round(value, 2) for name, value in raw["structured"].items()},
    }


def told(raw: dict[str, Any]) -> str:
    """What the ratios can be at best, in words."""
    lines = []
    for allocator in ("out of the box", "tuned"):
        runs = {name: run["seconds"] for name, run in raw[allocator].items()}
        lines.append(
            f"{allocator}: plain {1000 * runs['plain']:.0f} ms a sequence "
            f"({1000 * runs['plain, broadcast']:.0f} with broadcast products), "
            f"ours {1000 * runs['reproducing']:.0f}; both forward passes of it, gathering nothing, "
            f"{1000 * runs['dense']:.0f}, one dense forward pass alone "
            f"{1000 * runs['one dense forward']:.0f}: ratios of "
            f"{runs['plain'] / runs['dense']:.1f} and "
            f"{runs['plain'] / runs['one dense forward']:.1f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--run", choices=(*PLAIN, *RUNS, *BARE))
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
        print(told(raw))
        record("calibration", raw, summarise(raw), quick=options.quick)


if __name__ == "__main__":
    main()
