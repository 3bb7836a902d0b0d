"""What earlier looks counted, in blocks that grow with age: no row is kept, and no look is lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors

from ssmith.core.errors import ArtefactError
from ssmith.release.disk import file_digest
from ssmith.watch.sketch import Counts

FILE = "stream.safetensors"
_OF_ONE_SIZE = 2
"""Blocks of one number of looks that stand side by side before two become one."""


@dataclass(frozen=True, kw_only=True)
class LookBlock:
    """Some looks in a row, since a time in UTC: by reading, rows in each part of a grid."""

    since: str
    looks: int
    rows: int
    counts: Mapping[str, Counts]

    def joined(self, later: LookBlock) -> LookBlock:
        """Return this block and the next as one; a reading that one of them lacks is left out."""
        both = self.counts.keys() & later.counts.keys()
        return LookBlock(
            since=self.since, looks=self.looks + later.looks, rows=self.rows + later.rows,
            counts={name: self.counts[name] + later.counts[name] for name in both},
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stream:
    """All looks at one version so far, in blocks, the oldest first, and what other tests carry.

    Sizes of blocks are powers of two, at most two of a kind.
    """

    looks: int = 0
    blocks: tuple[LookBlock, ...] = ()
    memory: Mapping[str, Any] = field(default_factory=dict)

    def after(self, look: LookBlock) -> Stream:
        """Return the stream with one more look."""
        blocks = [*self.blocks, look]
        place = len(blocks) - 1
        while place >= _OF_ONE_SIZE and blocks[place - _OF_ONE_SIZE].looks == blocks[place].looks:
            place -= _OF_ONE_SIZE
            blocks[place : place + 2] = [blocks[place].joined(blocks[place + 1])]
        return replace(self, looks=self.looks + 1, blocks=tuple(blocks))

    def windows(self) -> list[LookBlock]:
        """Return the last look, the last two or three, … and all of them."""
        found: list[LookBlock] = []
        for block in reversed(self.blocks):
            found.append(block.joined(found[-1]) if found else block)
        return found

    def content(self) -> bytes:
        """Return the stream as its file holds it."""
        facts = [{"since": b.since, "looks": b.looks, "rows": b.rows} for b in self.blocks]
        tensors = {
            f"{place}/{name}": torch.from_numpy(counts)
            for place, block in enumerate(self.blocks)
            for name, counts in block.counts.items()
        }
        whole = {"looks": self.looks, "blocks": facts, "memory": self.memory}
        about = {name: json.dumps(value) for name, value in whole.items()}
        return to_safetensors(tensors, metadata=about)

    @classmethod
    def load(cls, file: Path, digest: str | None) -> Stream:
        """Read a stream; an empty one where there is none yet.

        Raises `ArtefactError` if the file is not one, or was changed since it had ``digest``.
        """
        if not file.exists():
            return cls()
        try:
            if digest not in (None, file_digest(file)):
                raise ValueError("it was changed")
            with safe_open(file, framework="pt") as held:
                about, names = held.metadata(), held.keys()
                tensors = {name: held.get_tensor(name).numpy() for name in names}
            facts = json.loads(about["blocks"])
            counts: list[dict[str, Counts]] = [{} for _ in facts]
            for name, value in tensors.items():
                place, _, reading = name.partition("/")
                counts[int(place)][reading] = value
            blocks = tuple(LookBlock(**one, counts=c) for one, c in zip(facts, counts, strict=True))
            return cls(looks=int(about["looks"]), blocks=blocks, memory=json.loads(about["memory"]))
        except Exception as error:
            raise ArtefactError(
                f"{file} cannot be read: {error}",
                next_step="delete it: looks begin anew, the log keeps the earlier ones",
            ) from error


def table_of(windows: list[LookBlock], reading: str) -> Counts:
    """Return the counts of a reading in every window that has it, one row each."""
    return np.stack([item.counts[reading] for item in windows if reading in item.counts])
