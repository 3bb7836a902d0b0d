"""What the scan benchmark times: ours, its rivals and the floors of each piece of work.

A floor is what no implementation of that work avoids (its matrix products, its exponentials,
reading its weights), timed in the same process. Where a goal is missed, it says what was left to
gain.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
import transformers
from torch.nn import functional

from rivals import (
    compiled_scan,
    complex_layer,
    kogge_stone,
    transformers_scan,
    unrolled_chunk,
)
from ssmith.families import LTIOptions, S5Layer
from ssmith.families.hf import engine
from ssmith.ops.backends import use_backend
from ssmith.ops.causal_conv import causal_conv
from ssmith.ops.selective_scan import (
    ScanInputs,
    StatisticsConfig,
    selective_scan,
    selective_scan_statistics,
)
from ssmith.ops.ssd import SSDInputs, ssd
from ssmith.ops.ssd.chunked import ssd_chunked
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
    vocabulary: int
    ssd: tuple[int, int, int, int, int, int]


FULL = Sizes(
    (1, 2048, 1536, 16),
    768,
    4,
    1024,
    32,
    24,
    (256, 512, 2048),
    4096,
    9,
    50280,
    (1, 2048, 24, 64, 1, 128),
)
QUICK = Sizes((1, 256, 128, 8), 64, 2, 96, 4, 2, (16, 32, 128), 256, 3, 100, (1, 96, 2, 8, 1, 8))


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


def both_ways(scan: Callable[[Any], torch.Tensor], inputs: Any) -> Callable[[], None]:
    """Return a call that runs a scan and its backward, on leaves and a slope that are there."""
    given = {name: value for name, value in vars(inputs).items() if torch.is_tensor(value)}
    leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
    ready = replace(inputs, **leaves)
    slope = torch.ones_like(scan(ready).detach())

    def call() -> None:
        for leaf in leaves.values():
            leaf.grad = None
        scan(ready).backward(slope)

    return call


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
        times["floor_exponentials"] = median(exponentials(sizes.scan), sizes.repeats)
        times["floor_bytes"] = median(bytes_of_scan(inputs), 5 * sizes.repeats)
    return times


def exponentials(sizes: tuple[int, int, int, int]) -> Callable[[], None]:
    """One exponential per step, channel and state by torch, in memory the cache holds."""
    b, length, e, n = sizes
    block = torch.full((65536,), -0.1)
    to = torch.empty_like(block)

    def call() -> None:
        for _ in range(-(-b * length * e * n // block.numel())):
            torch.exp(block, out=to)

    return call


def bytes_of_scan(inputs: ScanInputs) -> Callable[[], torch.Tensor]:
    """Read what the scan reads over time and channels, and write as much as it writes."""
    y = torch.empty_like(inputs.x)
    return lambda: torch.addcmul(inputs.x, inputs.dt, inputs.z, out=y)


def scan_both(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    inputs = scan_inputs(sizes.scan)
    rivals = {
        "ours": lambda given: selective_scan(given)[0],
        "mambapy": lambda given: transformers_scan(given, mambapy=True),
    }
    return {name: median(both_ways(scan, inputs), sizes.repeats) for name, scan in rivals.items()}


def language_model(sizes: Sizes, *, mambapy: bool) -> Any:
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=1000, hidden_size=sizes.model_width, use_mambapy=mambapy,
        num_hidden_layers=sizes.model_layers,
    )  # fmt: skip
    return transformers.MambaForCausalLM(config)


def second_model(sizes: Sizes) -> Any:
    torch.manual_seed(0)
    width, (_, _, _, head, groups, states) = sizes.model_width, sizes.ssd
    config = transformers.Mamba2Config(
        vocab_size=1000, hidden_size=width, num_hidden_layers=sizes.model_layers, head_dim=head,
        num_heads=2 * width // head, n_groups=groups, state_size=states,
    )  # fmt: skip
    return transformers.Mamba2ForCausalLM(config)


def hf_forward(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    return forward_times(language_model(sizes, mambapy=False).eval(), sizes)


def mamba2_forward(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    return forward_times(second_model(sizes).eval(), sizes)


def forward_times(model: Any, sizes: Sizes) -> dict[str, float]:
    ids = torch.randint(1, 1000, (1, sizes.model_length))
    call = lambda: model(ids, use_cache=False)  # noqa: E731
    with torch.no_grad():
        times = {"default": median(call, sizes.repeats)}
        times["floor_matmuls"] = median(products(model, sizes.model_length), sizes.repeats)
        with engine(model):
            times["ours"] = median(call, 3 * sizes.repeats)
    return times


def products(model: Any, length: int) -> Callable[[], None]:
    """Every linear layer of a model on rows of its own: its matrix products and nothing else."""
    layers = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    inputs = [torch.randn(1, length, layer.in_features) for layer in layers]

    def call() -> None:
        for layer, x in zip(layers, inputs, strict=True):
            functional.linear(x, layer.weight)

    return call


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
    step = matrix_products(model, sizes.model_length)
    times = {"floor_matmuls": median(step, sizes.repeats)}
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
            "floor_bytes": median(x.contiguous, 5 * sizes.repeats),
        }


def generate(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    """Both sides in turn, so that both see the same machine; the floor reads each weight once."""
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=sizes.vocabulary, hidden_size=sizes.model_width,
        num_hidden_layers=sizes.generate_layers,
    )  # fmt: skip
    model = transformers.MambaForCausalLM(config).eval()
    ids = torch.randint(1, sizes.vocabulary, (1, 8))
    call = lambda: model.generate(  # noqa: E731
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=sizes.generated,
        min_new_tokens=sizes.generated, do_sample=False, pad_token_id=0,
    )  # fmt: skip
    once(call)
    times: dict[str, list[float]] = {"default": [], "ours": []}
    for _ in range(2 if quick else 5):
        times["default"].append(once(call))
        with engine(model):
            times["ours"].append(once(call))
    found = {name: statistics.median(every) for name, every in times.items()}
    with torch.no_grad():
        found["floor_matmuls"] = sizes.generated * median(products(model, 1), sizes.repeats)
    return found


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
        x = torch.randn(length, 2 * states)
        both = lambda: (functional.linear(u[0], run.B_bar), functional.linear(x, run.C))  # noqa: E731
        times["floor_matmuls"] = median(both, 3 * sizes.repeats)
    return times


def second_scan(sizes: Sizes) -> SSDInputs:
    b, length, h, p, g, n = sizes.ssd
    return SSDInputs(
        x=torch.randn(b, length, h, p), dt=torch.randn(b, length, h), A=-1.0 - torch.rand(h),
        B=torch.randn(b, length, g, n), C=torch.randn(b, length, g, n), D=torch.ones(h),
        dt_bias=torch.full((h,), -4.0), dt_softplus=True,
    )  # fmt: skip


CHUNKED = {f"torch_chunks_of_{chunk}": chunk for chunk in (32, 64)}


def ssd_forward(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    """Mamba-2's scan; the rival is our own form in matrix products, at its best chunks."""
    del quick
    inputs = second_scan(sizes)
    with torch.no_grad():
        times = {"ours": median(lambda: ssd(inputs), 3 * sizes.repeats)}
        for name, chunk in CHUNKED.items():
            times[name] = median(
                lambda chunk=chunk: ssd_chunked(inputs, chunk=chunk), sizes.repeats
            )
    return times


def ssd_both(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    del quick
    inputs, repeats = second_scan(sizes), max(2, sizes.repeats // 2)

    times = {"ours": median(both_ways(lambda given: ssd(given)[0], inputs), sizes.repeats)}
    for name, chunk in CHUNKED.items():
        scan = lambda given, chunk=chunk: ssd_chunked(given, chunk=chunk)[0]  # noqa: E731
        times[name] = median(both_ways(scan, inputs), repeats)
    return times


def backward_growth(sizes: Sizes, *, quick: bool) -> dict[str, float]:
    b, _, e, n = sizes.scan
    times = {}
    for factor in (1, 2) if quick else (0.25, 0.5, 1, 2):
        inputs = scan_inputs((b, int(factor * sizes.backward), e, n))
        call = both_ways(lambda given: selective_scan(given)[0], inputs)
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

    def vote(start: int, squares: torch.Tensor) -> None:
        del start
        votes_for_smallest(squares, e * n // 2)

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
    "conv1d": conv, "generate": generate, "s5_layer": s5_layer, "ssd_fwd": ssd_forward,
    "ssd_fwdbwd": ssd_both, "mamba2_forward": mamba2_forward, "backward": backward_growth,
    "statistics": gathering, "hf_train": hf_train, "hf_train_default": hf_train_default,
}  # fmt: skip


def backward_memory(sizes: Sizes, factor: int) -> float:
    """Peak resident bytes that one training step of the scan adds."""
    b, _, e, n = sizes.scan
    inputs = scan_inputs((b, factor * sizes.backward, e, n))
    call = both_ways(lambda given: selective_scan(given)[0], inputs)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    return 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
