"""Every family and every method of tuning, tiny, for tests that run them all through one check."""

from __future__ import annotations

from typing import Any

import torch

from helpers.models import Kind, make_model
from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith import adapters
from ssmith.families.examples import main_output

SELECTIVE = NAMES
LTI = ("s5", "s4d")
FAMILIES = (*SELECTIVE, *LTI)

METHODS: dict[str, tuple[adapters.Method, ...]] = {
    "offset-h": (adapters.StateOffset(form="h"),),
    "offset-y": (adapters.StateOffset(form="y"),),
    "offset-both": (adapters.StateOffset(form="both"),),
    "offset-lowrank": (adapters.StateOffset(form="h", rank=3, r_ratio=2),),
    "initial-state": (adapters.InitialState(),),
    "additional-scan": (adapters.AdditionalScan(states=3),),
    "prompt": (adapters.PromptTuning(tokens=5),),
    "prefix": (adapters.PrefixTuning(tokens=3),),
    "prefix-mlp": (adapters.PrefixTuning(tokens=3, hidden=4),),
    "bitfit": (adapters.BitFit(),),
    "lora": (adapters.LoRA(rank=2, alpha=3),),
    "dora": (adapters.LoRA(rank=2, dora=True),),
    "lora-official": (adapters.LoRA(targets="official", rank=2),),
    "core": (adapters.Core(basis="gradient", rank=3),),
    "core-seeded": (adapters.Core(basis="seeded"),),
    "sdt": (adapters.SDT(channels=0.1, states=0.5),),
    "parameters": (adapters.Parameters(targets=("D",)),),
    "full": (adapters.FullFineTuning(scope="all"),),
    "full-ssm": (adapters.FullFineTuning(scope="ssm"),),
    "combined": (adapters.StateOffset(form="y"), adapters.LoRA(rank=2)),
}
# Not defined there: refused by name, with what to use instead.
REFUSED = {
    **{("mamba2", method): "Mamba-2" for method in ("additional-scan", "sdt")},
    **{(family, f"offset-{form}"): "form 'y'" for family in LTI for form in ("h", "both")},
    **{(family, "offset-lowrank"): "form 'y'" for family in LTI},
    **{
        (family, method): "selective layers"
        for family in LTI
        for method in ("additional-scan", "prompt", "prefix", "prefix-mlp", "sdt")
    },
    **{(family, "lora-official"): "dt_proj" for family in ("mamba2", *LTI)},
}
PAIRS = [(family, name) for family in FAMILIES for name in METHODS if (family, name) not in REFUSED]
CHANGES_AT_START = {"prompt", "prefix", "prefix-mlp"}
MERGES = {
    "bitfit", "lora", "dora", "lora-official", "core", "core-seeded", "sdt", "parameters",
    "full", "full-ssm",
}  # fmt: skip


def build(family: str, *, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """Build a tiny model of a family, in eval mode."""
    if family in SELECTIVE:
        return tiny(family, dtype=dtype, seed=seed)
    return make_model(Kind(family), activation="half_glu", seed=seed).to(dtype).eval()


def batch_for(family: str, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Draw what a family's model takes: two sequences of 14 steps."""
    if family in SELECTIVE:
        return {"input_ids": tokens(2, 14, seed=seed)}
    draw = torch.Generator().manual_seed(seed)
    return {"x": torch.randn(2, 14, 2, generator=draw, dtype=torch.float64)}


def disturb_(model: Any, *, size: float = 0.1, seed: int = 0) -> None:
    """Move every trainable tensor of the active adapters a little."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in adapters.trainable(model).values():
            noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
            tensor.add_(size * noise.to(tensor))


def run(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return a model's main output without gradients."""
    with torch.no_grad():
        return main_output(model(**batch))


def gap(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the largest absolute difference."""
    return float((first - second).abs().max())
