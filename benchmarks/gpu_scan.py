"""The selective scan on a GPU: right at odd sizes, and how far from the bytes it must move.

    PYTHONPATH=src:tests python benchmarks/gpu_scan.py [--quick]

Prints one line of JSON. `forward_to_bytes` is the time of the forward over the time a copy of the
same bytes takes at the measured copy bandwidth (1.0 would be perfect), for the best launch found
and for the default one; likewise `backward_to_bytes` for the backward alone.
"""

import argparse
import json
import statistics
from dataclasses import asdict, replace

import torch

from helpers.scan_cases import run_with_gradients, scan_inputs, worst_difference
from ssmith.ops.selective_scan.chunked import selective_scan_chunked
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.triton import Launch, selective_scan_triton

ODD_SIZES = [
    (1, 1, 1, 1), (2, 63, 17, 3), (1, 5000, 33, 2), (3, 65, 130, 5), (1, 333, 70, 64),
    (1, 100, 40, 128),
]  # fmt: skip
SHAPES = {
    "small": (1, 2048, 1536, 16),
    "medium": (8, 2048, 1536, 16),
    "large": (16, 4096, 4096, 16),
}
LAUNCHES = [
    Launch(channels=channels, warps=warps, steps=steps, programs=programs)
    for channels, warps in [(32, 1), (64, 1), (64, 2), (128, 4)]
    for steps in (4, 8)
    for programs in (1, 2048, 4096)
]
GRADIENT_LAUNCHES = [
    Launch(gradient_channels=channels, gradient_warps=warps, programs=programs)
    for channels, warps in [(32, 1), (32, 2), (64, 2), (64, 4), (128, 4)]
    for programs in (2048, 8192)
]


def milliseconds(call, repeats: int = 15) -> float:
    """Median time of a call on the GPU, with the cache of the last call flushed."""
    flush = torch.empty(256 * 2**20, dtype=torch.int8, device="cuda")
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        flush.zero_()
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        stop.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a plain copy of a gigabyte."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / milliseconds(lambda: target.copy_(source)) * 1e3


def worst_error() -> dict[str, float]:
    """Worst relative difference from float64 over odd sizes, per output and gradient."""
    worst: dict[str, float] = {}
    for sizes in ODD_SIZES:
        inputs = scan_inputs(sizes)
        on_gpu = replace(
            inputs, **{name: tensor.cuda() for name, tensor in inputs.tensors().items()}
        )
        wanted = run_with_gradients(selective_scan_chunked, on_gpu)
        for launch in (Launch(), Launch(channels=64, gradient_channels=64, shortest=32)):
            got = run_with_gradients(
                lambda given, launch=launch: selective_scan_triton(given, launch),
                on_gpu, torch.float32,
            )  # fmt: skip
            for name, error in worst_difference(got, wanted).items():
                worst[name] = max(worst.get(name, 0.0), error)
    return worst


def make(shape: tuple[int, int, int, int], dtype: torch.dtype) -> ScanInputs:
    """Draw inputs on the GPU as a trained layer has them: small steps, A = −1 … −n."""
    b, length, e, n = shape

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, device="cuda").to(dtype)

    return ScanInputs(
        x=normal(b, length, e), dt=normal(b, length, e), z=normal(b, length, e),
        B=normal(b, length, n), C=normal(b, length, n),
        A=-torch.arange(1.0, n + 1, device="cuda").repeat(e, 1),
        D=torch.ones(e, device="cuda"), dt_bias=torch.full((e,), -4.0, device="cuda"),
        dt_softplus=True,
    )  # fmt: skip


def time_forward(inputs: ScanInputs, launches: list[Launch]) -> dict[str, object]:
    """Time the forward under every launch."""
    with torch.no_grad():
        times = [
            (milliseconds(lambda launch=launch: selective_scan_triton(inputs, launch)), launch)
            for launch in launches
        ]
        default = milliseconds(lambda: selective_scan_triton(inputs))
    best, launch = min(times, key=lambda pair: pair[0])
    return {"default_ms": default, "best_ms": best, "best_launch": asdict(launch)}


def time_backward(inputs: ScanInputs, base: Launch, launches: list[Launch]) -> dict[str, object]:
    """Time the backward alone under every layout of the gradients."""
    names = ("x", "dt", "z", "B", "C", "A", "D", "dt_bias")
    leaves = {name: getattr(inputs, name).clone().requires_grad_() for name in names}
    inputs = replace(inputs, **leaves)
    times = []
    for launch in launches:
        full = replace(
            base, gradient_channels=launch.gradient_channels,
            gradient_warps=launch.gradient_warps, programs=launch.programs,
        )  # fmt: skip
        y, _ = selective_scan_triton(inputs, full)
        dy = torch.ones_like(y)
        call = lambda y=y, dy=dy: torch.autograd.grad(  # noqa: E731
            y, list(leaves.values()), dy, retain_graph=True
        )
        times.append((milliseconds(call, 9), full))
    best, launch = min(times, key=lambda pair: pair[0])
    return {"default_ms": times[0][0], "best_ms": best, "best_launch": asdict(launch)}


def measure(name: str, dtype: torch.dtype, bandwidth: float, *, quick: bool) -> dict[str, object]:
    """Time one shape and compare with the bytes it must move."""
    b, length, e, n = SHAPES[name]
    inputs = make(SHAPES[name], dtype)
    item = inputs.x.element_size()
    rows, small = b * length * e * item, 2 * b * length * n * item
    forward = time_forward(inputs, LAUNCHES[:2] if quick else LAUNCHES)
    launch = Launch(**forward["best_launch"])  # type: ignore[arg-type]
    backward = time_backward(inputs, launch, GRADIENT_LAUNCHES[:2] if quick else GRADIENT_LAUNCHES)
    ideal_forward = (4 * rows + small) / bandwidth * 1e3
    ideal_backward = (7 * rows + 2 * small) / bandwidth * 1e3
    for result, ideal in ((forward, ideal_forward), (backward, ideal_backward)):
        result["bytes_ms"] = ideal
        result["default_to_bytes"] = result["default_ms"] / ideal
        result["best_to_bytes"] = result["best_ms"] / ideal
    return {"forward": forward, "backward": backward}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer launches, two shapes")
    quick = parser.parse_args().quick
    errors = worst_error()
    bandwidth = copy_bandwidth()
    results = {
        f"{name}_{str(dtype).removeprefix('torch.')}": measure(name, dtype, bandwidth, quick=quick)
        for name in list(SHAPES)[: 2 if quick else 3]
        for dtype in (torch.float32, torch.bfloat16)
    }
    head = max(results, key=lambda name: (name.startswith("large"), name.endswith("float32")))
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name(),
                "torch": torch.__version__,
                "copy_bandwidth_GBps": bandwidth / 1e9,
                "worst_relative_error": errors,
                "correct": all(error < 1e-5 for error in errors.values()),
                "headline_shape": head,
                "forward_to_bytes": results[head]["forward"]["best_to_bytes"],
                "backward_to_bytes": results[head]["backward"]["best_to_bytes"],
                "mamba_ssm": None,
                "shapes": results,
            }
        )
    )


if __name__ == "__main__":
    main()
