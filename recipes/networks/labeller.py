"""A bidirectional labeller of characters with a mixer of its own, registered in one line.

Every projection has a bias, the expansion is one, blocks use LayerNorm, and every step gets a
label: is this character inside a quoted string?
"""

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

WIDTH, STATES, RANK, LENGTH = 24, 8, 4, 40


class OwnMixer(nn.Module):
    """Mamba's recurrence, written out step by step under names of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Linear(WIDTH, 2 * WIDTH)
        self.filter = nn.Conv1d(WIDTH, WIDTH, 3, groups=WIDTH, padding=2)
        self.selection = nn.Linear(WIDTH, RANK + 2 * STATES)
        self.step_size = nn.Linear(RANK, WIDTH)
        self.log_decay = nn.Parameter(torch.arange(1, STATES + 1.0).log().repeat(WIDTH, 1))
        self.skip = nn.Parameter(torch.ones(WIDTH))
        self.outward = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.inward(x).chunk(2, dim=-1)
        u = functional.silu(self.filter(u.mT)[..., : x.shape[1]].mT)
        n = self.log_decay.shape[1]
        rank, B, C = self.selection(u).split([RANK, n, n], dim=-1)
        dt = functional.softplus(self.step_size(rank))
        A, h, out = -self.log_decay.exp(), u.new_zeros(len(u), WIDTH, n), []
        for t in range(u.shape[1]):
            decay = (dt[:, t, :, None] * A).exp()
            h = decay * h + (dt[:, t] * u[:, t])[..., None] * B[:, t, None]
            out.append((h * C[:, t, None]).sum(-1) + self.skip * u[:, t])
        return self.outward(torch.stack(out, dim=1) * functional.silu(gate))


sm.register(
    OwnMixer,
    like="mamba",
    names={
        "in_proj": "inward",
        "conv1d": "filter",
        "x_proj": "selection",
        "dt_proj": "step_size",
        "A_log": "log_decay",
        "D": "skip",
        "out_proj": "outward",
    },
)


class Labeller(nn.Module):
    """Two blocks, each with a mixer for either direction."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(128, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.forth = nn.ModuleList(OwnMixer() for _ in range(2))
        self.back = nn.ModuleList(OwnMixer() for _ in range(2))
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for norm, forth, back in zip(self.norms, self.forth, self.back, strict=True):
            y = norm(x)
            x = x + forth(y) + back(y.flip(1)).flip(1)
        return self.head(x)


def data(count: int = 512) -> dict[str, Tensor]:
    """Draw strings of letters with quoted stretches; label 1 inside of quotes."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(97, 123, (count, LENGTH), generator=draw)
    cuts = torch.rand(count, LENGTH, generator=draw) < 0.08
    ids = torch.where(cuts, 34, ids)
    inside = (cuts.cumsum(1) % 2).bool() & ~cuts
    return {"ids": ids, "labels": inside.long()}


def loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return functional.cross_entropy(network(batch["ids"]).flatten(0, 1), batch["labels"].flatten())


def hits(network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Per string: how many labels are right, and how many there are."""
    right = network(batch["ids"]).argmax(-1) == batch["labels"]
    return right.float().sum(1), torch.full((len(right),), float(right.shape[1]))


TASK = sm.Task(metric=sm.Metric(name="labels right", higher_is_better=True), outcomes=hits)
BUDGETS = [sm.Budget("state", 0.25), sm.Budget("entry", 0.25), sm.Budget("weight", 0.3)]


def main(steps: int, out: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    network = Labeller()
    batches, *held = loaders(data(), (64, 64, 96))
    train(network, batches, loss, steps)
    rows = [sm.rows(part, forward=lambda model, batch: model(batch["ids"])) for part in held]
    return whole_job(Labeller, network, BUDGETS, tuple(rows), TASK, out)


if __name__ == "__main__":
    given = arguments(__doc__)
    main(given.steps, given.out)
