"""The scan engine on the CPU against the forms other packages use.

Every ratio is measured twice: out of the box, and with the memory allocator tuned alike on both
sides; each case in a process of its own, both sides in the same one. Full: the sizes the README
quotes. Quick: small ones, which exercise every line and prove nothing. With ``--only`` some cases
are measured anew and the others kept as they were stored.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import psutil
import torch
import transformers
from torch.nn import functional

import scan_table
from record import RESULTS, record
from rivals import (
    compiled_scan,
    complex_layer,
    kogge_stone,
    transformers_scan,
    unrolled_chunk,
)
from ssmith.core.files import write_text
from ssmith.families import LTIOptions, S5Layer
from ssmith.families.hf import engine
from ssmith.ops.backends import describe, use_backend
from ssmith.ops.causal_conv import causal_conv
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.ops.selective_scan import (
    ScanInputs,
    StatisticsConfig,
    selective_scan,
    selective_scan_statistics,
)
from ssmith.ops.votes import votes_for_smallest


@dataclass(frozen=True)
class Sizes:
    scan: tuple[int, int, int, int]
    model_width: int
    model_layers: int
    model_length: int
    generated: int
    generate_layers: int
    s5: tuple[int, int, int]
    backward: int
    repeats: int


FULL = Sizes((1, 2048, 1536, 16), 768, 4, 1024, 32, 24, (256, 512, 2048), 4096, 9)
QUICK = Sizes((1, 256, 128, 8), 64, 2, 96, 4, 2, (16, 32, 128), 256, 3)


def median(call: Callable[[], Any], repeats: int) -> float:
    """Median seconds of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def once(call: Callable[[], Any]) -> float:
    """Seconds of the only call: for rivals that take minutes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def scan_inputs(sizes: tuple[int, int, int, int]) -> ScanInputs:
    b, length, e, n = sizes
    return ScanInputs(
        x=torch.randn(b, length, e), dt=torch.randn(b, length, e), z=torch.randn(b, length, e),
        B=torch.randn(b, length, n), C=torch.randn(b, length, n), D=torch.ones(e),
        A=-torch.arange(1.0, n + 1).repeat(e, 1), dt_bias=torch.full((e,), -4.0), dt_softplus=True,
    )  # fmt: skip


def with_gradients(scan: Callable[[ScanInputs], torch.Tensor], inputs: ScanInputs) -> None:
    names = ("x", "dt", "z", "B", "C", "A", "D", "dt_bias")
    leaves = {name: getattr(inputs, name).clone().requires_grad_() for name in names}
    scan(replace(inputs, **leaves)).sum().backward()


def scan_forward(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    inputs = scan_inputs(sizes.scan)
    chunk = None if quick else torch.compile(unrolled_chunk)
    with torch.no_grad():
        times = {
            "ours": median(lambda: selective_scan(inputs), 5 * sizes.repeats),
            "loop": median(lambda: transformers_scan(inputs, mambapy=False), sizes.repeats),
            "mambapy": median(lambda: transformers_scan(inputs, mambapy=True), sizes.repeats),
        }
        if chunk is not None:
            times["compiled"] = median(lambda: compiled_scan(chunk, inputs), sizes.repeats)
        with use_backend("torch"):
            times["ours_torch"] = median(lambda: selective_scan(inputs), sizes.repeats)
    return times


def scan_both(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    inputs = scan_inputs(sizes.scan)
    rivals = {
        "ours": lambda given: selective_scan(given)[0],
        "mambapy": lambda given: transformers_scan(given, mambapy=True),
    }
    return {
        name: median(lambda scan=scan: with_gradients(scan, inputs), sizes.repeats)
        for name, scan in rivals.items()
    }


def language_model(sizes: Sizes, *, mambapy: bool, layers: int | None = None) -> Any:
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=1000, hidden_size=sizes.model_width, use_mambapy=mambapy,
        num_hidden_layers=sizes.model_layers if layers is None else layers,
    )  # fmt: skip
    return transformers.MambaForCausalLM(config)


def hf_forward(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    model = language_model(sizes, mambapy=False).eval()
    ids = torch.randint(1, 1000, (1, sizes.model_length))
    call = lambda: model(ids, use_cache=False)  # noqa: E731
    with torch.no_grad():
        default = median(call, sizes.repeats)
        with engine(model):
            return {"ours": median(call, 3 * sizes.repeats), "default": default}


def matrix_products(model: Any, length: int) -> Callable[[], None]:
    """A training step's matrix products alone: every linear layer, forward and backward."""
    layers = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    inputs = [torch.randn(length, layer.in_features, requires_grad=True) for layer in layers]

    def call() -> None:
        for layer, x in zip(layers, inputs, strict=True):
            y = functional.linear(x, layer.weight)
            torch.autograd.grad(y, (x, layer.weight), torch.ones_like(y))

    return call


def train_step(model: Any, ids: torch.Tensor) -> Callable[[], None]:
    def call() -> None:
        model.zero_grad()
        model(ids, labels=ids).loss.backward()

    return call


def hf_train(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    ids = torch.randint(1, 1000, (1, sizes.model_length))
    model = language_model(sizes, mambapy=False).train()
    products = matrix_products(model, sizes.model_length)
    times = {"matmuls": median(products, sizes.repeats)}
    with engine(model):
        times["ours"] = median(train_step(model, ids), sizes.repeats)
    mambapy = train_step(language_model(sizes, mambapy=True).train(), ids)
    times["mambapy"] = median(mambapy, max(2, sizes.repeats // 3))
    return times


def hf_train_default(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    """The default takes minutes at full size: it is measured once."""
    ids = torch.randint(1, 1000, (1, sizes.model_length))
    step = train_step(language_model(sizes, mambapy=False).train(), ids)
    return {"default": median(step, 2) if quick else once(step)}


def conv(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    """As a mixer has it, time-major in and out; and torch's with its own layout for a present."""
    del quick
    b, length, e, _ = sizes.scan
    both, weight, bias = torch.randn(b, length, 2 * e), torch.randn(e, 4), torch.randn(e)
    x = both[..., :e]
    channels_first = x.mT.contiguous()

    def torch_conv(x: torch.Tensor) -> torch.Tensor:
        y = functional.conv1d(x, weight[:, None], bias, padding=3, groups=e)
        return functional.silu(y[..., :length])

    with torch.no_grad():
        return {
            "ours": median(lambda: causal_conv(x, weight, bias), 5 * sizes.repeats),
            "torch": median(lambda: torch_conv(channels_first), 3 * sizes.repeats),
            "torch_in_mixer": median(lambda: torch_conv(x.mT), 3 * sizes.repeats),
        }


def generate(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    """Both sides in turn, so that both see the same machine."""
    model = language_model(sizes, mambapy=False, layers=sizes.generate_layers).eval()
    ids = torch.randint(1, 1000, (1, 8))
    call = lambda: model.generate(  # noqa: E731
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=sizes.generated,
        min_new_tokens=sizes.generated, do_sample=False, pad_token_id=0,
    )  # fmt: skip
    times: dict[str, list[float]] = {"default": [], "ours": []}
    for _ in range(2 if quick else 4):
        times["default"].append(median(call, 1))
        with engine(model):
            times["ours"].append(median(call, 1))
    return {name: statistics.median(found) for name, found in times.items()}


def s5_layer(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    states, width, length = sizes.s5
    layer = S5Layer(width, states, options=LTIOptions()).eval()
    u = torch.randn(1, length, width)
    with torch.no_grad():
        run, D = layer.discretise(), layer.get_parameter("D")
        torch.testing.assert_close(complex_layer(run, D, u), layer(u), rtol=1e-3, atol=1e-3)
        times = {
            "ours": median(lambda: layer(u), 3 * sizes.repeats),
            "complex_kogge_stone": median(lambda: complex_layer(run, D, u), sizes.repeats),
        }
        with use_backend("torch"):
            times["chunked"] = median(lambda: layer(u), sizes.repeats)
        with mock.patch("ssmith.families.s5.layer.diagonal_scan", kogge_stone):
            times["kogge_stone"] = median(lambda: layer(u), sizes.repeats)
    return times


def backward_growth(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    b, _, e, n = sizes.scan
    times = {}
    for factor in (1, 2) if quick else (0.25, 0.5, 1, 2):
        inputs = scan_inputs((b, int(factor * sizes.backward), e, n))
        call = lambda inputs=inputs: with_gradients(lambda given: selective_scan(given)[0], inputs)  # noqa: E731
        times[f"{factor:g}L"] = median(call, sizes.repeats)
    return times


def gathering(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    """One layer's matrix products and scan, and the same with statistics, and with votes."""
    del quick
    inputs = scan_inputs(sizes.scan)
    b, length, e, n = sizes.scan
    shapes = ((e // 2, 2 * e), (e, e // 32 + 2 * n), (e // 32, e), (e, e // 2))
    products = [(torch.randn(b, length, i), torch.randn(o, i)) for i, o in shapes]
    quantities = ("h", "A_bar_h", "C_h", "C_A_bar_h")
    everything = StatisticsConfig(energies=quantities, gram="C_A_bar_h", gated=True)

    def vote(start: int, squares: torch.Tensor, decays: torch.Tensor) -> None:
        del start, decays
        votes_for_smallest(squares.flatten(1), e * n // 2)

    def layer(config: StatisticsConfig | None) -> Callable[[], None]:
        def call() -> None:
            for x, weight in products:
                functional.linear(x, weight)
            if config is None:
                selective_scan(inputs)
            else:
                selective_scan_statistics(inputs, config)

        return call

    configs = {
        "ours": None, "one_energy": StatisticsConfig(), "everything": everything,
        "voting": StatisticsConfig(energies=(), visit=vote),
    }  # fmt: skip
    with torch.no_grad():
        return {name: median(layer(config), sizes.repeats) for name, config in configs.items()}


CASES = {
    "scan_fwd": scan_forward, "scan_fwdbwd": scan_both, "hf_forward": hf_forward,
    "conv1d": conv, "generate": generate, "s5_layer": s5_layer, "backward": backward_growth,
    "statistics": gathering, "hf_train": hf_train, "hf_train_default": hf_train_default,
}  # fmt: skip


def backward_memory(sizes: Sizes, factor: int) -> float:
    """Peak resident bytes that one training step of the scan adds."""
    b, _, e, n = sizes.scan
    inputs = scan_inputs((b, factor * sizes.backward, e, n))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with_gradients(lambda given: selective_scan(given)[0], inputs)
    return 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def worker(options: argparse.Namespace) -> None:
    """Run one case in this process and print its times."""
    if options.tuned:
        tune_allocator_()
    transformers.logging.set_verbosity_error()
    sizes = QUICK if options.quick else FULL
    if options.memory:
        print(json.dumps(backward_memory(sizes, options.memory)))
        return
    before, start = psutil.cpu_times(), time.perf_counter()
    times = CASES[options.only](sizes, quick=options.quick)
    elapsed, own = time.perf_counter() - start, psutil.Process().cpu_times()
    after = psutil.cpu_times()
    busy = sum(getattr(after, kind) - getattr(before, kind) for kind in ("user", "nice", "system"))
    others = max(0.0, busy - own.user - own.system) / elapsed
    print(json.dumps({"seconds": times, "cores_busy_with_others": round(others, 2)}))


def run_worker(options: argparse.Namespace, *flags: str) -> Any:
    """Run a worker in a process of its own and read what it prints last."""
    command = [sys.executable, __file__, "--worker", *flags, *["--quick"] * options.quick]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def stored(quick: bool) -> dict[str, Any]:
    """What an earlier run of this benchmark left behind."""
    path = RESULTS / f"scan{'-quick' if quick else ''}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return found if "cases" in found else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="some cases, separated by commas")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--tuned", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    names = options.only.split(",") if options.only else list(CASES)
    kept = stored(options.quick) if options.only else {}
    cases = kept.get("cases", {})
    memory = kept.get("backward_peak_bytes", [])
    for name in names:
        cases[name] = {
            setting: run_worker(options, "--only", name, *flags)
            for setting, flags in (("out_of_the_box", ()), ("tuned", ("--tuned",)))
        }
        if name == "backward":
            memory = [run_worker(options, "--memory", str(factor)) for factor in (1, 2)]
    paths = {choice.op: f"{choice.backend}: {choice.reason}" for choice in describe()}
    raw = {
        "cases": cases, "paths": paths, "backward_peak_bytes": memory,
        "transformers": transformers.__version__,
    }  # fmt: skip
    summary = scan_table.summary(cases, memory)
    if not options.quick:
        write_text(RESULTS / "scan.md", scan_table.render(cases, summary))
    record("scan", raw, summary, quick=options.quick)


if __name__ == "__main__":
    main()
