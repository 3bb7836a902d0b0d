"""What the four networks share: a short training, and the whole job on a network of one's own."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import ssmith as sm

Loss = Callable[[nn.Module, dict[str, Tensor]], Tensor]


def loaders(
    data: dict[str, Tensor], sizes: tuple[int, ...] = (48, 48), batch: int = 16
) -> tuple[DataLoader, ...]:
    """Return loaders of dicts: for training the rest, then one for each size, disjoint."""
    count = len(next(iter(data.values())))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    found, end = [], count
    for size in sizes:
        part = order[end - size : end]
        found.append(DataLoader([{k: v[i] for k, v in data.items()} for i in part], batch))
        end -= size
    train = [{k: v[i] for k, v in data.items()} for i in order[:end]]
    stream = torch.Generator().manual_seed(1)
    return (DataLoader(train, batch, shuffle=True, generator=stream), *found)


def train(network: nn.Module, batches: Iterable[dict[str, Tensor]], loss: Loss, steps: int) -> None:
    """Train a network for some steps with AdamW."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    done = 0
    while done < steps:
        for batch in batches:
            optimiser.zero_grad()
            loss(network, batch).backward()
            optimiser.step()
            done += 1
            if done == steps:
                break
    network.eval()


def whole_job(  # noqa: PLR0917
    build: Callable[[], nn.Module],
    network: nn.Module,
    budgets: list[sm.Budget],
    parts: tuple[Any, Any, Any],
    task: sm.Task,
    out: Path,
) -> dict[str, Any]:
    """Inspect, plan, prune, save, open, compare, pilot; return what was measured."""
    calibration, selection, test = parts
    print(sm.inspect(network))
    plan = sm.plan(network, budgets, calibration)
    print(plan)
    plan.save(out / "plan")
    small = copy.deepcopy(network)
    receipt = sm.prune_(small, sm.Plan.load(out / "plan"))
    print(receipt.removed)
    sm.save(small, out / "small", overwrite=True)
    opened = sm.load(out / "small", build=build)
    assert sm.inspect(opened).digest == sm.inspect(small).digest
    found = sm.compare(network, opened, test, task)
    print(found)
    piloted = sm.pilot(
        network,
        {"calibration": calibration, "selection": selection, "test": test},
        out / "pilot",
        sm.PilotConfig(
            sparsities=(0.25, 0.5), baselines=("random",), refine=0, max_loss=0.05,
            speed_seconds=0.2,
        ),
        task,
        overwrite=True,
    )  # fmt: skip
    print(piloted.verdict.headline)
    return {"removed": receipt.removed, "comparison": found, "plan": plan, "pilot": piloted}


def arguments(about: str) -> argparse.Namespace:
    """Return how long to train, and where to write."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path("network-out"))
    return parser.parse_args()
