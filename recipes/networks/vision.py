"""An image classifier that scans patches in two directions, with transformers' Mamba mixers.

The mixer of the first block runs twice, on the patches and on the patches in reverse.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers.models.mamba.modeling_mamba import MambaConfig, MambaMixer

sys.path.insert(0, str(Path(__file__).parent))
from shared import arguments, loaders, train, whole_job

import ssmith as sm

WIDTH = 32


class Both(nn.Module):
    """One mixer on a sequence and on its reverse."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.mixer = MambaMixer(config, layer_idx=0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.mixer(y) + self.mixer(y.flip(1)).flip(1)


class Vision(nn.Module):
    """Patches of 2 × 2 pixels, two blocks, the mean over patches."""

    def __init__(self) -> None:
        super().__init__()
        config = MambaConfig(hidden_size=WIDTH, state_size=8, num_hidden_layers=2)
        self.patches = nn.Conv2d(1, WIDTH, 2, stride=2)
        self.places = nn.Parameter(torch.zeros(16, WIDTH))
        self.blocks = nn.ModuleList([Both(config), Both(config)])
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patches(pixels).flatten(2).mT + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def data() -> dict[str, Tensor]:
    images = load_digits()
    pixels = torch.tensor(images.images, dtype=torch.float32).unsqueeze(1) / 16
    return {"pixels": pixels, "label": torch.tensor(images.target)}


def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(network(batch["pixels"]), batch["label"])


def hits(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """One number per image: 1 where the class is right."""
    return (network(batch["pixels"]).argmax(-1) == batch["label"]).float()


TASK = sm.Task(metric=sm.Metric(name="top-1", higher_is_better=True), outcomes=hits)
BUDGETS = [sm.Budget("state", 0.5), sm.Budget("entry", 0.25), sm.Budget("weight", "2:4")]


def main(steps: int, out: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    network = Vision()
    batches, *held = loaders(data(), (128, 128, 256))
    train(network, batches, loss, steps)
    rows = [sm.rows(part, forward=lambda model, batch: model(batch["pixels"])) for part in held]
    return whole_job(Vision, network, BUDGETS, tuple(rows), TASK, out)


if __name__ == "__main__":
    given = arguments(__doc__)
    main(given.steps, given.out)
