"""A regressor of sensor series on mambapy's blocks: series of unequal length, padded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from mambapy.mamba import MambaConfig, ResidualBlock
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from shared import arguments, loaders, train, whole_job

import ssmith as sm

WIDTH, LENGTH = 24, 48


class Sensor(nn.Module):
    """Three channels in, the strength of a hidden source out: the last valid step says it."""

    def __init__(self) -> None:
        super().__init__()
        config = MambaConfig(d_model=WIDTH, n_layers=2, d_state=8, expand_factor=2, pscan=False)
        self.into = nn.Linear(3, WIDTH)
        self.layers = nn.ModuleList([ResidualBlock(config) for _ in range(2)])
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, series: Tensor, valid: Tensor) -> Tensor:
        x = self.into(series)
        for layer in self.layers:
            x = layer(x)
        last = valid.sum(1).clamp(min=1) - 1
        return self.out(x[torch.arange(len(x)), last]).squeeze(-1)


def data(count: int = 640) -> dict[str, Tensor]:
    """Draw series: a decaying source seen through three noisy sensors with their own delays."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (count,), generator=draw)
    strength = torch.rand(count, generator=draw) * 2 - 1
    time = torch.arange(LENGTH)
    delays = torch.tensor([0, 2, 5])
    source = strength[:, None, None] * torch.exp(-(time[:, None] - delays).clamp(min=0) / 12)
    series = source * (time[:, None] >= delays) + 0.1 * torch.randn(
        count, LENGTH, 3, generator=draw
    )
    valid = time < lengths[:, None]
    return {"series": series * valid[..., None], "valid": valid, "strength": strength}


def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (network(batch["series"], batch["valid"]) - batch["strength"]).square().mean()


def errors(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """One number per series: the squared error."""
    return (network(batch["series"], batch["valid"]) - batch["strength"]).square()


METRIC = sm.Metric(name="root mean square error", higher_is_better=False, link="sqrt")
TASK = sm.Task(metric=METRIC, outcomes=errors)
BUDGETS = [sm.Budget("state", 0.5), sm.Budget("entry", 0.25), sm.Budget("weight", 0.5)]


def main(steps: int, out: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    network = Sensor()
    batches, *held = loaders(data(), (96, 96, 128))
    train(network, batches, loss, steps)
    rows = [
        sm.rows(
            part,
            forward=lambda model, batch: model(batch["series"], batch["valid"]),
            valid=lambda batch: batch["valid"],
        )
        for part in held
    ]
    return whole_job(Sensor, network, BUDGETS, tuple(rows), TASK, out)


if __name__ == "__main__":
    given = arguments(__doc__)
    main(given.steps, given.out)
