"""One training step and one decoded token with State-offset, against rivals on a frozen model.

All in one run on one machine: a single trainable scalar added to what the first layer reads out
(the least any tuning can cost), State-offset (h) and (y), LoRA of rank 8 on the modules the paper
uses (dt_proj and x_proj), and stock transformers with LoRA by peft on the same model, data and
steps. Models take turns step by step, so that a machine whose speed drifts treats them alike.
Full: four layers of Mamba-130M (width 768), batch 4, length 512. Quick: small sizes, which exercise
every line and prove nothing.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from record import RESULTS, record
from ssmith.core.files import read_json
from ssmith.families.hf import accelerate_
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.tune.adapters import LoRA, StateOffset, attach_

RATE = 1e-3
OFFICIAL = ("dt_proj", "x_proj")


@dataclass(frozen=True)
class Sizes:
    width: int
    layers: int
    batch: int
    length: int
    rounds: int
    stock_rounds: int
    decoded: int
    decode_rounds: int


FULL = Sizes(768, 4, 4, 512, 7, 1, 64, 9)
QUICK = Sizes(64, 2, 2, 64, 3, 1, 8, 3)


def base(sizes: Sizes) -> Any:
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=256, hidden_size=sizes.width, num_hidden_layers=sizes.layers, state_size=16,
        use_cache=False,
    )  # fmt: skip
    return transformers.MambaForCausalLM(config).requires_grad_(False)


def with_scalar(sizes: Sizes) -> nn.Module:
    """A model on the engine with one trainable number, added to the first layer's read-out."""
    model = base(sizes)
    accelerate_(model)
    out = model.backbone.layers[0].mixer.out_proj
    out.scalar = nn.Parameter(torch.zeros(()))
    out.register_forward_pre_hook(lambda module, inputs: (inputs[0] + module.scalar,))
    return model


def with_adapter(sizes: Sizes, method: Any) -> nn.Module:
    model = base(sizes)
    attach_(model, method, prove=False)
    return model


def stock_lora(sizes: Sizes) -> nn.Module:
    """Transformers' own code with peft's LoRA on the same modules."""
    peft = import_module("peft")
    config = peft.LoraConfig(r=8, lora_alpha=8, target_modules=list(OFFICIAL))
    return peft.get_peft_model(base(sizes), config)


BUILDERS: dict[str, Callable[[Sizes], nn.Module]] = {
    "scalar": with_scalar,
    "state-offset-h": lambda sizes: with_adapter(sizes, StateOffset()),
    "state-offset-y": lambda sizes: with_adapter(sizes, StateOffset(form="y")),
    "lora": lambda sizes: with_adapter(sizes, LoRA(targets=OFFICIAL, rank=8)),
    "stock-lora": stock_lora,
}


def stepper(model: nn.Module, *, batch: int, length: int) -> Callable[[], float]:
    """Return one training step of a model on fixed tokens; it gives the loss."""
    model.train()
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 256, (batch, length), generator=draw)
    trained = [item for item in model.parameters() if item.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE)

    def step() -> float:
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of calls that take turns, there and back, after one of each."""
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: 1 if number % 2 else -1]:
            times[name].append(timed(calls[name]))
    return times


def step_times(sizes: Sizes) -> dict[str, list[float]]:
    """Return the seconds of every step; all but the stock model take turns."""
    names = [name for name in BUILDERS if name != "stock-lora"]
    return in_turns({name: stepper_of(name, sizes) for name in names}, sizes.rounds)


def stock_times(sizes: Sizes) -> list[float]:
    step = stepper_of("stock-lora", sizes)
    return [timed(step) for _ in range(sizes.stock_rounds)]


def decoder(model: Any, *, batch: int, steps: int) -> Callable[[], None]:
    """Return what decodes some steps of several sequences."""
    model.eval()
    ids = torch.zeros(batch, 1, dtype=torch.long)

    @torch.no_grad()
    def decode() -> None:
        carried = model(ids, use_cache=True).cache_params
        for _ in range(steps):
            carried = model(ids, cache_params=carried, use_cache=True).cache_params

    return decode


def decode_times(sizes: Sizes) -> dict[str, list[float]]:
    """Return the seconds of decoding some tokens, with an offset and without, in turns."""
    models = {"base": base(sizes), "state-offset-h": with_adapter(sizes, StateOffset())}
    accelerate_(models["base"])
    calls: dict[str, Callable[[], Any]] = {
        name: decoder(model, batch=1, steps=sizes.decoded) for name, model in models.items()
    }
    return in_turns(calls, sizes.decode_rounds)


def stepper_of(name: str, sizes: Sizes) -> Callable[[], float]:
    return stepper(BUILDERS[name](sizes), batch=sizes.batch, length=sizes.length)


def peak_of(step: Callable[[], float]) -> int:
    """Return by how much three training steps raise this process's peak memory, in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = resident()
    for _ in range(3):
        step()
    high = Path("/proc/self/status")
    if high.exists():
        line = next(row for row in high.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 - before
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def peaks(sizes: Sizes) -> dict[str, int]:
    """Return the peak of each model but stock, in a process of its own."""
    found = {}
    for name in BUILDERS:
        if name == "stock-lora":
            continue
        quick = ["--quick"] if sizes == QUICK else []
        command = [sys.executable, __file__, "--peak-of", name, *quick]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = int(done.stdout.splitlines()[-1])
    return found


def ratio(times: dict[str, list[float]], over: str, under: str) -> float:
    """Return the median over rounds of one model's time as a multiple of another's."""
    pairs = zip(times[over], times[under], strict=True)
    return round(statistics.median(a / b for a, b in pairs), 4)


PARTS: dict[str, Callable[[Sizes], Any]] = {
    "step_seconds": step_times,
    "decode_seconds": decode_times,
    "stock_step_seconds": stock_times,
    "peak_bytes": peaks,
}
GOALS = (
    "step_offset_vs_scalar",
    "step_offset_vs_lora",
    "peak_offset_vs_lora",
    "decode_offset_vs_base",
    "step_vs_stock_lora",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peak-of", choices=tuple(BUILDERS))
    parser.add_argument(
        "--parts", default=",".join(PARTS), help="measure these anew, take the rest as stored"
    )
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    tune_allocator_()
    if options.peak_of:
        print(peak_of(stepper_of(options.peak_of, sizes)))
        return
    stored = RESULTS / f"tune{'-quick' if options.quick else ''}.json"
    before = read_json(stored) if stored.exists() else {}
    raw = {name: before.get(name) for name in PARTS}
    for name in options.parts.split(","):
        raw[name] = PARTS[name](sizes)
    record("tune", {"sizes": asdict(sizes), **raw}, summary_of(raw), quick=options.quick)


def summary_of(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the ratios; None where a part has not been measured."""
    times, decoded, stock, peaks = (raw[name] for name in PARTS)
    if not times or not decoded or not stock or not peaks:
        return dict.fromkeys(GOALS)
    seconds = {name: statistics.median(found) for name, found in times.items()}
    return {
        "step_offset_vs_scalar": ratio(times, "state-offset-h", "scalar"),
        "step_offset_y_vs_scalar": ratio(times, "state-offset-y", "scalar"),
        "step_offset_vs_lora": ratio(times, "state-offset-h", "lora"),
        "peak_offset_vs_lora": round(peaks["state-offset-h"] / peaks["lora"], 4),
        "decode_offset_vs_base": ratio(decoded, "state-offset-h", "base"),
        "step_vs_stock_lora": round(statistics.median(stock) / seconds["state-offset-h"], 1),
    }


if __name__ == "__main__":
    main()
