"""What tests of selective pruning share: every state by definition, weights, windows of text."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from helpers.tiny_mamba import tokens
from ssmith.core.selective import LayerWeights
from ssmith.core.tokens import TokenWindows
from ssmith.ops.selective_scan.inputs import ScanInputs
from ssmith.ops.selective_scan.reference import step_sizes


def every_state(inputs: ScanInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Ā, the state before and the state after every step, each (b, l, e, n)."""
    dt = step_sizes(inputs)
    A_bar = torch.exp(dt[..., None] * inputs.A)
    h = torch.zeros_like(A_bar[:, 0])
    before, after = [], []
    for t in range(A_bar.shape[1]):
        before.append(h)
        h = A_bar[:, t] * h + (dt[:, t] * inputs.x[:, t])[..., None] * inputs.B[:, t, None]
        after.append(h)
    return A_bar, torch.stack(before, 1), torch.stack(after, 1)


def layer_weights(inputs: ScanInputs, *, cut: float = 0.0, seed: int = 0) -> LayerWeights:
    """Weights around a scan's A, with random output energies and a share of entries cut before."""
    draw = torch.Generator().manual_seed(seed)
    e, n = inputs.A.shape
    return LayerWeights(
        layer="layer",
        A_log=(-inputs.A).log().double(),
        out_weight=(torch.rand(1, e, generator=draw, dtype=torch.float64) + 0.1).sqrt(),
        present=torch.rand(e, n, generator=draw) >= cut,
    )


def windows_of(count: int, length: int, *, seed: int = 0, **changes: Any) -> TokenWindows:
    """Random windows for the tiny models, none of them padded unless ``lengths`` says so."""
    given = {
        "ids": tokens(count, length, seed),
        "lengths": torch.full((count,), length),
        "scored_from": torch.ones(count, dtype=torch.int64),
        "text_bytes": None,
        "vocabulary": 61,
        "name": "toy",
    }
    return TokenWindows(**(given | changes))
