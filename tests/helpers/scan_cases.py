"""Random inputs for the scans, and the comparison of twins, used by every test of `ops/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.ssd.inputs import SSDInputs

EVERYTHING = ("D", "z", "dt_bias", "dt_weight", "h0", "h_offset", "y_offset", "valid")
RANK = 3


def scan_inputs(
    sizes: tuple[int, int, int, int],
    given: Sequence[str] = EVERYTHING,
    *,
    softplus: bool = True,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> ScanInputs:
    """Draw inputs of sizes (b, l, e, n) with the named options present."""
    b, length, e, n = sizes
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    options = {
        "D": normal(e), "z": normal(b, length, e),
        "dt_bias": normal(e) if softplus else 0.1 * normal(e).abs(),
        "h0": normal(b, e, n), "h_offset": normal(e, n),
        "y_offset": normal(e),
        "valid": torch.rand(b, length, generator=draw) > 0.3,
    }  # fmt: skip
    dt = normal(b, length, e)
    if "dt_weight" in given:
        dt, weight = normal(b, length, RANK), normal(e, RANK)
        options["dt_weight"] = weight if softplus else weight.abs()
    return ScanInputs(
        x=normal(b, length, e), dt=dt if softplus else 0.3 * dt.abs(), A=-normal(e, n).exp(),
        B=normal(b, length, n), C=normal(b, length, n), dt_softplus=softplus,
        **{name: value for name, value in options.items() if name in given},
    )  # fmt: skip


def ssd_inputs(
    sizes: tuple[int, int, int, int, int, int],
    given: Sequence[str] = EVERYTHING,
    *,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> SSDInputs:
    """Draw inputs of sizes (b, l, h, p, g, n) with the named options present."""
    b, length, h, p, g, n = sizes
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    options = {
        "D": normal(h), "dt_bias": normal(h), "h0": normal(b, h, p, n),
        "h_offset": normal(h, p, n), "valid": torch.rand(b, length, generator=draw) > 0.3,
    }  # fmt: skip
    return SSDInputs(
        x=normal(b, length, h, p), dt=normal(b, length, h), A=-normal(h).exp(),
        B=normal(b, length, g, n), C=normal(b, length, g, n), dt_softplus=True, dt_limit=dt_limit,
        **{name: value for name, value in options.items() if name in given},
    )  # fmt: skip


def leaves(inputs: Any, dtype: torch.dtype | None = None) -> tuple[Any, dict[str, Tensor]]:
    """Return a copy whose floating-point tensors are fresh leaves, and those leaves by name."""
    found = {
        name: value.detach().to(dtype or value.dtype).clone().requires_grad_()
        for name, value in vars(inputs).items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    return replace(inputs, **found), found


def run_with_gradients(
    scan: Callable[[Any], tuple[Tensor, Tensor]], inputs: Any, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Run a scan and return outputs, final state and the gradients of a fixed random loss."""
    inputs, found = leaves(inputs, dtype)
    y, h_last = scan(inputs)
    draw = torch.Generator().manual_seed(7)
    weights = [
        torch.randn(out.shape, generator=draw, dtype=torch.float64).to(out) for out in (y, h_last)
    ]
    loss = (y * weights[0]).sum() + (h_last * weights[1]).sum()
    gradients = torch.autograd.grad(loss, list(found.values()), allow_unused=True)
    results = {"y": y.detach(), "h_last": h_last.detach()}
    for (name, leaf), gradient in zip(found.items(), gradients, strict=True):
        results[f"d{name}"] = torch.zeros_like(leaf) if gradient is None else gradient
    return results


def worst_difference(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    """Return max|got − wanted| / max(max|wanted|, 0.1) per tensor; inputs are of order one."""
    assert got.keys() == wanted.keys()
    worst = {}
    for name, judge in wanted.items():
        assert got[name].shape == judge.shape, name
        if judge.numel():
            gap = (got[name].double() - judge.double()).abs().max()
            worst[name] = float(gap / judge.double().abs().max().clamp_min(0.1))
    return worst


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    """Fail with every relative difference if one is above ``tolerance`` or not a number."""
    worst = worst_difference(got, wanted)
    assert all(value <= tolerance for value in worst.values()), worst
