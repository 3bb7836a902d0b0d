"""What each step of a training learns from: rows in an order drawn anew for each pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from ssmith.core.seeds import generator
from ssmith.tune.training.objectives import Batch


@runtime_checkable
class Batches(Protocol):
    """The rows of every step, told by the step's number alone."""

    def rows(self, step: int) -> Int64[Tensor, "r"]:
        """Return what a step learns from, over all processes."""

    def collate(self, rows: Int64[Tensor, "r"]) -> Batch:
        """Return some of these rows as a batch."""


@dataclass(frozen=True, kw_only=True)
class RowBatches:
    """Rows of a data set; a pass ends with what is left of it."""

    count: int
    size: int
    seed: int
    read: Callable[[Int64[Tensor, "r"]], Batch]

    @property
    def steps_per_pass(self) -> int:
        """Steps that see every row once."""
        return -(-self.count // self.size)

    def rows(self, step: int) -> Int64[Tensor, "r"]:
        turn, place = divmod(step, self.steps_per_pass)
        _, order = _drawn(1, self.count, self.seed, turn)
        return order[place * self.size : (place + 1) * self.size]

    def collate(self, rows: Int64[Tensor, "r"]) -> Batch:
        return self.read(rows)


@dataclass(frozen=True, kw_only=True)
class StreamBatches:
    """Windows of a stream of tokens, cut at another phase in each pass.

    ``length`` counts the tokens predicted in each window.
    """

    stream: Integer[Tensor, "t"]
    length: int
    size: int
    seed: int

    @property
    def windows(self) -> int:
        """Whole windows at any phase."""
        return (len(self.stream) - 1) // self.length - 1

    def rows(self, step: int) -> Int64[Tensor, "r"]:
        """Return where a step's windows start; a pass drops what fills no step."""
        turn, place = divmod(step, self.windows // self.size)
        phase, order = _drawn(self.length, self.windows, self.seed, turn)
        return phase + order[place * self.size : (place + 1) * self.size] * self.length

    def collate(self, rows: Int64[Tensor, "r"]) -> Batch:
        ids = torch.stack([self.stream[at : at + self.length + 1] for at in rows.tolist()]).long()
        return {"input_ids": ids[:, :-1], "labels": ids[:, 1:]}


@lru_cache(maxsize=4)
def _drawn(phases: int, count: int, seed: int, turn: int) -> tuple[int, Int64[Tensor, "r"]]:
    """Return the phase and the order of a pass."""
    draw = generator(seed, "order", turn)
    phase = int(torch.randint(phases, (), generator=draw)) if phases > 1 else 0
    return phase, torch.randperm(count, generator=draw)
