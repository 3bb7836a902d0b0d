"""S5 layers inside a U-Net that takes the noise out of a series."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from shared import arguments, loaders, train, whole_job

import ssmith as sm
from ssmith.families import LTIOptions, S5Layer

WIDTH, LENGTH = 16, 64


class Level(nn.Module):
    """A bidirectional S5 layer with what stands around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.ssm = S5Layer(width, 16, options=LTIOptions(bidirectional=True))
        self.mix = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(functional.gelu(self.ssm(self.norm(x))))


class UNet(nn.Module):
    """Down to half the length and up again, with a connection past it."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(1, WIDTH)
        self.down, self.deep, self.up = Level(WIDTH), Level(2 * WIDTH), Level(WIDTH)
        self.fold, self.unfold = nn.Linear(2 * WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, 2 * WIDTH)
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, series: Tensor) -> Tensor:
        x = self.down(self.into(series))
        half = self.deep(self.fold(x.unflatten(1, (-1, 2)).flatten(2)))
        wide = self.unfold(half).unflatten(2, (2, -1)).flatten(1, 2)
        return self.out(self.up(x + wide))


def data(count: int = 448) -> dict[str, Tensor]:
    """Draw sums of two sines, and the same with noise."""
    draw = torch.Generator().manual_seed(0)
    time = torch.arange(LENGTH) / LENGTH
    rates = torch.rand(count, 2, generator=draw) * 8 + 1
    phases = torch.rand(count, 2, generator=draw) * 6.28
    clean = torch.sin(6.28 * rates[..., None] * time + phases[..., None]).sum(1)[..., None]
    return {"noisy": clean + 0.5 * torch.randn(clean.shape, generator=draw), "clean": clean}


def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return functional.mse_loss(network(batch["noisy"]), batch["clean"])


def errors(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """One number per series: the mean squared error of its steps."""
    return (network(batch["noisy"]) - batch["clean"]).square().mean((1, 2))


METRIC = sm.Metric(name="root mean square error", higher_is_better=False, link="sqrt")
TASK = sm.Task(metric=METRIC, outcomes=errors)
BUDGETS = [sm.Budget("state", 0.5)]


def main(steps: int, out: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    network = UNet()
    batches, *held = loaders(data(), (32, 64, 96))
    train(network, batches, loss, steps)
    rows = [sm.rows(part, forward=lambda model, batch: model(batch["noisy"])) for part in held]
    return whole_job(UNet, network, BUDGETS, tuple(rows), TASK, out)


if __name__ == "__main__":
    given = arguments(__doc__)
    main(given.steps, given.out)
