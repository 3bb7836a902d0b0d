"""A data set before it is split: what every reader returns and every step refines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from ssmith.core.sequences import Sequences, Task


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All sequences of a data set in one block.

    Args:
        name: what users call it.
        source: where it comes from, in words.
        task: what is predicted.
        x: a series or tokens, padded on the right with 0.
        lengths: valid steps of each sequence.
        y: class index (int64), or real targets (float32).
        classes: names of the classes, in index order (classification).
        vocabulary: number of token ids, or None for real-valued series.
        split_of: split name of each sequence, or None if still to be drawn.
        details: what was done so far, JSON-ready.
        columns: what else the data says of each sequence, by name of the column.
    """

    name: str
    source: str
    task: Task
    x: Float32[Tensor, "b l c"] | Int64[Tensor, "b l"]
    lengths: Int64[Tensor, "b"]
    y: Int64[Tensor, "b"] | Float32[Tensor, "b ..."]
    classes: tuple[str, ...] = ()
    vocabulary: int | None = None
    split_of: tuple[str, ...] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.x.shape[0]

    def sequences(self) -> Sequences:
        """Return the block as sequences."""
        return Sequences(x=self.x, lengths=self.lengths, y=self.y, columns=self.columns)

    def keep(self, index: Int64[Tensor, "i"]) -> Pool:
        """Return the pool with the chosen sequences only, in the order of ``index``."""
        part = self.sequences().take(index)
        chosen = self.split_of and tuple(self.split_of[i] for i in index.tolist())
        return replace(
            self, x=part.x, lengths=part.lengths, y=part.y, split_of=chosen, columns=part.columns
        )


def valid_steps(lengths: Int64[Tensor, "b"], longest: int) -> Bool[Tensor, "b l"]:
    """Return the mask of steps that are not padding."""
    return torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]


def pad_series(series: list[Float[Tensor, "_ c"]]) -> Float[Tensor, "b l c"]:
    """Stack series of different lengths, padded on the right with 0."""
    return torch.nn.utils.rnn.pad_sequence(series, batch_first=True, padding_value=0.0)
