"""Sums over windows that come out the same, bit for bit, whatever number of processes adds them.

The windows are split into eight shards. Each shard is summed in order; shards are added in pairs,
pairs in fours, fours at last. One, two, four or eight processes each hold a whole branch of that
tree, so the additions, and their rounding, are the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed
from torch.nn import functional

from ssmith.core.errors import InputError
from ssmith.core.launch import together
from ssmith.core.selective import Statistics, Totals

SHARDS = 8
_HALVES = 2


@dataclass(frozen=True, kw_only=True)
class Group:
    """The processes that share a pass: this one's rank from 0, and how many there are."""

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if self.size not in (1, 2, 4, SHARDS):
            raise InputError(
                f"{self.size} processes", allowed="1, 2, 4 or 8, so that sums round the same"
            )

    @classmethod
    def current(cls) -> Group:
        """Return the group torch.distributed was initialised with, or a group of one."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(rank=distributed.get_rank(), size=distributed.get_world_size())

    def shards(self, windows: int) -> Iterator[tuple[int, range]]:
        """Yield number and windows of each shard of this process, empty ones too."""
        if windows < self.size:
            raise InputError(f"{windows} windows for {self.size} processes", allowed="one each")
        each = SHARDS // self.size
        for shard in range(self.rank * each, (self.rank + 1) * each):
            yield shard, range(shard * windows // SHARDS, (shard + 1) * windows // SHARDS)

    def gather(self, text: str) -> list[str]:
        """Return what every process said, in order of rank; all say equally much."""
        if self.size == 1:
            return [text]
        device = _device()
        mine = torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        together(distributed.all_gather, found, mine)
        return [bytes(item.cpu().tolist()).decode() for item in found]

    def share(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """Return the CPU tensors, as many of each process, in order of rank."""
        facts = json.dumps([[str(item.dtype)[6:], list(item.shape)] for item in tensors])
        sizes = self.gather(f"{len(facts):12}")
        texts = self.gather(facts.ljust(max(map(int, sizes))))
        flat = [item.contiguous().reshape(-1).view(torch.uint8) for item in tensors]
        mine = torch.cat([*flat, torch.empty(0, dtype=torch.uint8)])
        longest = max(int(size) for size in self.gather(f"{len(mine):20}"))
        mine = functional.pad(mine, (0, longest - len(mine))).to(_device())
        found = [torch.empty_like(mine) for _ in range(self.size)]
        together(distributed.all_gather, found, mine)
        return [_cut(part.cpu(), json.loads(text)) for part, text in zip(found, texts, strict=True)]


@dataclass
class ShardSum:
    """Statistics of shards, added up in the fixed tree; joined in order if they are ``samples``.

    ``nodes`` holds by level (0 for a shard, 1 for a pair, …) and place what has been added so far;
    None where no window was.
    """

    samples: bool = False
    nodes: dict[tuple[int, int], Statistics | None] = field(default_factory=dict)

    def add(self, shard: int, sums: Statistics | None) -> None:
        """Add a shard."""
        self._add(0, shard, sums)

    def totals(self, group: Group) -> Totals:
        """Return the sums over all processes; the same for each of them."""
        if group.size > 1:
            self._exchange(group)
        first, second = self.nodes[2, 0], self.nodes[2, 1]
        sums = self._plus(first, second)
        if sums is None:
            raise InputError("no window was summed")
        halves = None if first is None or second is None else (first, second)
        return Totals(sums=sums, halves=halves)

    def _add(self, level: int, place: int, sums: Statistics | None) -> None:
        sibling = (level, place ^ 1)
        if SHARDS >> level == _HALVES or sibling not in self.nodes:
            self.nodes[level, place] = sums
            return
        other = self.nodes.pop(sibling)
        left, right = (sums, other) if place % 2 == 0 else (other, sums)
        self._add(level + 1, place // 2, self._plus(left, right))

    def _exchange(self, group: Group) -> None:
        """Replace this process's branches by those of all."""
        own = sorted(self.nodes)
        held = {key: self.nodes.pop(key) for key in own}
        for (level, _), sums in held.items():
            if sums is None:
                raise InputError("a process has no window", next_step="give more windows")
            names = sorted(sums)
            for rank, found in enumerate(group.share([sums[name] for name in names])):
                # Every process holds one branch of the same level, in order of rank.
                self._add(level, rank, dict(zip(names, found, strict=True)))

    def _plus(self, left: Statistics | None, right: Statistics | None) -> Statistics | None:
        if left is None or right is None:
            return right if left is None else left
        return appended(left, right) if self.samples else {k: left[k] + right[k] for k in left}


def _cut(content: Tensor, facts: list[tuple[str, list[int]]]) -> list[Tensor]:
    """Return the tensors whose bytes lie one after the other."""
    found, start = [], 0
    for name, shape in facts:
        dtype = getattr(torch, name)
        stop = start + math.prod(shape) * dtype.itemsize
        # A view of another type needs bytes that begin where such numbers may.
        found.append(content[start:stop].clone().view(dtype).reshape(shape))
        start = stop
    return found


def _device() -> torch.device:
    on_gpu = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")


def added(sums: Statistics | None, more: dict[str, Tensor]) -> Statistics:
    """Return running sums with one batch's statistics added, in float64 on the CPU."""
    if sums is None:
        return {name: value.detach().double().cpu() for name, value in more.items()}
    for name, value in more.items():
        sums[name] += value.detach().double().cpu()
    return sums


def appended(first: Statistics | None, more: dict[str, Tensor]) -> Statistics:
    """Return samples, along the first axis, with one batch's behind them, in float64 on the CPU."""
    found = added(None, more)
    return {
        name: value if first is None else torch.cat([first[name], value])
        for name, value in found.items()
    }
