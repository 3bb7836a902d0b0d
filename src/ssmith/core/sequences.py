"""Sequences and their targets: the one shape in which data travels through the house."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from ssmith.core.findings import Finding
from ssmith.core.rows import Batch, InOrder, where_some
from ssmith.core.sections import DataSection
from ssmith.core.splits import InSplits
from ssmith.core.trees import digest_of, placed
from ssmith.core.words import number_of

Task = Literal["classification", "multi-label", "regression", "forecast"]
_FEW_NEAR = 0.05
"""Share of a split whose rows may be near rows of the training split by chance."""
SPLITS = ("train", "validation", "selection", "test")


@dataclass(frozen=True, kw_only=True)
class Sequences(InOrder):
    """Some sequences of one split, padded on the right to a common length.

    Args:
        x: a series (float32) or tokens (int64).
        lengths: valid steps of each sequence; padding follows them.
        y: class index (int64), or real targets (float32).
        columns: what else the data says of each sequence (its machine, its user), by name of the
            column; no model reads it.
    """

    x: Float32[Tensor, "b l c"] | Int64[Tensor, "b l"]
    lengths: Int64[Tensor, "b"]
    y: Int64[Tensor, "b"] | Float32[Tensor, "b ..."]
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.x.shape[0]

    def take(self, index: Int64[Tensor, "i"]) -> Sequences:
        """Return the chosen sequences, trimmed to the longest of them."""
        lengths = self.lengths[index]
        longest = int(lengths.max()) if len(index) else 0
        places = index.tolist() if self.columns else []
        columns = {
            name: tuple(values[place] for place in places) for name, values in self.columns.items()
        }
        return Sequences(
            x=self.x[index, :longest], lengths=lengths, y=self.y[index], columns=columns
        )

    def first(self, count: int) -> Sequences:
        """Return the first ``count`` sequences, or all if there are fewer."""
        return self.take(torch.arange(min(count, len(self)), device=self.x.device))

    def to(self, device: torch.device | str) -> Sequences:
        """Return a copy on ``device``."""
        x, lengths, y = (item.to(device) for item in (self.x, self.lengths, self.y))
        return replace(self, x=x, lengths=lengths, y=y)

    @cached_property
    def by_length(self) -> Int64[Tensor, "b"]:
        """Places in rising order of lengths: padding costs time and tells nothing."""
        return self.lengths.argsort(stable=True)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all tensors."""
        return digest_of({"x": self.x, "lengths": self.lengths, "y": self.y})

    def batch(self, items: range) -> Batch:
        """Return some sequences, counted in rising order of lengths, trimmed to the longest."""
        part = self.take(self.by_length[items.start : items.stop])
        steps = torch.arange(part.x.shape[1], device=self.x.device)
        valid = where_some(steps < part.lengths.unsqueeze(1))
        return Batch(inputs=part, valid=valid, count=len(part))

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run a network as ``model(x, lengths)``, on its device and in its type."""
        return model(*placed((batch.inputs.x, batch.inputs.lengths), model))

    def describe(self) -> DataSection:
        """Return the data section of a receipt, as far as one part of a data set knows it."""
        counts = {"rows": len(self)}
        return DataSection(name="sequences", sha256=self.fingerprint, counts=counts)


def shared_rows(data: InSplits[Any]) -> tuple[Finding, ...]:
    """Return what must be known of data whose splits share rows, exactly or nearly."""
    found = []
    shared = data.details.get("duplicates_across_splits", 0)
    if shared:
        found.append(
            f"{number_of(shared, 'input')} of the data {'is' if shared == 1 else 'are'} in more "
            "than one split, so that what is measured is in part of rows that were learned or "
            "chosen on; split the data again without copies"
        )
    near = {name: count for name, count in data.details.get("near_copies", {}).items()
            if count > _FEW_NEAR * len(data.splits[name])}  # fmt: skip
    if near and not shared:
        shown = ", ".join(f"{count} of {len(data.splits[name])} in {name}"
                          for name, count in near.items())  # fmt: skip
        found.append(
            f"rows are nearly the same as rows of the training split ({shown}), so that what is "
            "measured is in part what was learned; split by what rows have in common (a group)"
        )
    return tuple(Finding(layer="", kind="leak", message=message) for message in found)


@dataclass(frozen=True, kw_only=True)
class SequenceData(InSplits[Sequences]):
    """A data set in its splits.

    ``train`` fits weights, ``validation`` stops training, ``selection`` chooses how much to cut,
    ``test`` is looked at once, at the end. They are disjoint.

    Args:
        task: what is predicted.
        classes: names of the classes, in index order (classification).
        vocabulary: number of token ids, or None for real-valued series.
    """

    task: Task
    classes: tuple[str, ...] = ()
    vocabulary: int | None = None
