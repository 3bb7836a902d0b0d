"""The scan engine on the CPU against the forms other packages use.

Every ratio is measured twice in one run: out of the box, and with the memory allocator tuned
alike on both sides, each in a process of its own. Full: the sizes the README quotes. Quick: small
ones, which exercise every line and prove nothing.
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

import torch
import transformers
from torch.nn import functional

from record import record
from rivals import compiled_scan, kogge_stone, transformers_scan, unrolled_chunk
from ssmith.families import LTIOptions, S5Layer
from ssmith.families.hf import engine
from ssmith.ops.backends import describe, use_backend
from ssmith.ops.causal_conv import causal_conv
from ssmith.ops.native.allocator import tune_allocator_
from ssmith.ops.selective_scan import ScanInputs, selective_scan


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


def hf_train(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    ids = torch.randint(1, 1000, (1, sizes.model_length))
    models = {
        name: language_model(sizes, mambapy=name == "mambapy") for name in ("default", "mambapy")
    }

    def step(model: Any) -> Callable[[], None]:
        def call() -> None:
            model.zero_grad()
            model(ids, labels=ids).loss.backward()

        return call

    model = models["default"].train()
    times = {"matmuls": median(matrix_products(model, sizes.model_length), sizes.repeats)}
    with engine(model):
        times["ours"] = median(step(model), sizes.repeats)
    times["mambapy"] = median(step(models["mambapy"].train()), max(2, sizes.repeats // 3))
    # The default takes minutes at full size: it is measured once.
    times["default"] = median(step(model), 2) if quick else once(step(model))
    return times


def conv(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    b, length, e, _ = sizes.scan
    x, weight, bias = torch.randn(b, length, e), torch.randn(e, 4), torch.randn(e)
    channels_first = x.mT.contiguous()
    with torch.no_grad():
        return {
            "ours": median(lambda: causal_conv(x, weight, bias), 5 * sizes.repeats),
            "torch": median(
                lambda: functional.silu(
                    functional.conv1d(channels_first, weight[:, None], bias, padding=3, groups=e)[
                        ..., :length
                    ]
                ),
                3 * sizes.repeats,
            ),
        }


def generate(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    model = language_model(sizes, mambapy=False, layers=sizes.generate_layers).eval()
    ids = torch.randint(1, 1000, (1, 8))
    call = lambda: model.generate(  # noqa: E731
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=sizes.generated,
        min_new_tokens=sizes.generated, do_sample=False, pad_token_id=0,
    )  # fmt: skip
    default = median(call, 3)
    with engine(model):
        return {"ours": median(call, 3), "default": default}


def s5_layer(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    states, width, length = sizes.s5
    layer = S5Layer(width, states, options=LTIOptions()).eval()
    u = torch.randn(1, length, width)
    with torch.no_grad():
        times = {"ours": median(lambda: layer(u), 3 * sizes.repeats)}
        with use_backend("torch"):
            times["chunked"] = median(lambda: layer(u), sizes.repeats)
        with mock.patch("ssmith.families.s5.layer.diagonal_scan", kogge_stone):
            times["kogge_stone"] = median(lambda: layer(u), sizes.repeats)
    return times


def backward_growth(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    b, _, e, n = sizes.scan
    times = {}
    for factor in (1, 2):
        inputs = scan_inputs((b, factor * sizes.backward, e, n))
        call = lambda inputs=inputs: with_gradients(lambda given: selective_scan(given)[0], inputs)  # noqa: E731
        times[f"{factor}L"] = median(call, sizes.repeats)
    return times


CASES = {
    "scan_fwd": scan_forward, "scan_fwdbwd": scan_both, "hf_forward": hf_forward,
    "conv1d": conv, "generate": generate, "s5_layer": s5_layer, "backward": backward_growth,
    "hf_train": hf_train,
}  # fmt: skip


def backward_memory(sizes: Sizes, factor: int) -> float:
    """Peak resident bytes that one training step of the scan adds."""
    b, _, e, n = sizes.scan
    inputs = scan_inputs((b, factor * sizes.backward, e, n))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with_gradients(lambda given: selective_scan(given)[0], inputs)
    return 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def worker(options: argparse.Namespace) -> None:
    """Run all cases in this process and print their times."""
    if options.tuned:
        tune_allocator_()
    transformers.logging.set_verbosity_error()
    sizes = QUICK if options.quick else FULL
    if options.memory:
        print(json.dumps(backward_memory(sizes, options.memory)))
        return
    names = options.only.split(",") if options.only else list(CASES)
    print(json.dumps({name: CASES[name](sizes, quick=options.quick) for name in names}))


def run_worker(options: argparse.Namespace, *flags: str) -> Any:
    """Run a worker in a process of its own and read what it prints last."""
    command = [sys.executable, __file__, "--worker", *flags]
    command += ["--quick"] * options.quick + (["--only", options.only] if options.only else [])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def summarise(
    plain: dict[str, Any], tuned: dict[str, Any], memory: list[float]
) -> dict[str, float]:
    """Return how many times faster than each rival, and cost ratios for what must not grow."""
    summary: dict[str, float] = {}
    for suffix, times in (("", plain), ("_tuned", tuned)):
        for case, rivals in times.items():
            if case == "backward":
                summary[f"backward_2L_vs_L{suffix}"] = rivals["2L"] / rivals["1L"]
                continue
            for rival, seconds in rivals.items():
                if rival == "matmuls":
                    summary[f"{case}_vs_matmuls{suffix}"] = rivals["ours"] / seconds
                elif rival != "ours":
                    summary[f"{case}_vs_{rival}{suffix}"] = seconds / rivals["ours"]
        if "s5_layer" in times:
            s5 = times["s5_layer"]
            best = min(s5["chunked"], s5["kogge_stone"])
            summary[f"s5_layer_vs_pscan{suffix}"] = best / s5["ours"]
    summary["backward_memory_2L_vs_L"] = memory[1] / memory[0] if memory[0] > 0 else 0.0
    return {name: round(value, 3) for name, value in summary.items()}


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
    plain, tuned = run_worker(options), run_worker(options, "--tuned")
    memory = [run_worker(options, "--memory", str(factor)) for factor in (1, 2)]
    paths = {choice.op: f"{choice.backend}: {choice.reason}" for choice in describe()}
    raw = {
        "seconds": {"out_of_the_box": plain, "tuned": tuned}, "paths": paths,
        "backward_peak_bytes": memory, "transformers": transformers.__version__,
    }  # fmt: skip
    record("scan", raw, summarise(plain, tuned, memory), quick=options.quick)


if __name__ == "__main__":
    main()
