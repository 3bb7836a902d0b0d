"""Rows: what a network is run on, whatever they are: sequences, windows of text, any batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn
from torch.utils import data

from ssmith.core.checks import check_integer
from ssmith.core.errors import DataError, InputError
from ssmith.core.sections import DataSection
from ssmith.core.trees import digest_of, mapped, placed, tensors_in

Valid = Bool[Tensor, "b l"] | Mapping[str, Tensor | Sequence[Tensor]] | None
"""Which steps count: all (None), those of a mask, or, by name of a site (or a pattern of names),
those of a mask for each time that it is called."""
Forward = Callable[[nn.Module, Any], Any]
"""Runs a network on a batch."""
Masking = str | Callable[[Any], Any] | None
"""A key of the batch, or what returns a mask for it."""

_HOW = "say how it is read: forward=lambda model, batch: model(...)"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some rows, as a network reads them.

    Args:
        inputs: what they are.
        valid: which steps count.
        count: how many sequences, images, …: the size of the first axis.
    """

    inputs: Any
    valid: Valid
    count: int


class InOrder:
    """Items of which any that follow one another share a batch."""

    def __len__(self) -> int:
        raise NotImplementedError

    def ranges(self, size: int, within: range | None = None) -> list[range]:
        """Return items that can share a batch, at most ``size`` of them (see `Rows`)."""
        return in_parts(size, range(len(self)) if within is None else within)


@runtime_checkable
class Rows(Protocol):
    """Anything that a network can be run on, batch by batch, as often as one likes."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything in it."""

    def __len__(self) -> int:
        """Return how many items there are."""

    def take(self, index: Int64[Tensor, "i"]) -> Rows:
        """Return the chosen items."""

    def ranges(self, size: int, within: range | None = None) -> list[range]:
        """Return items that can share a batch, at most ``size`` of them, in order.

        Of those ``within``; of all if None.
        """

    def batch(self, items: range) -> Batch:
        """Return some items as one batch, on the CPU."""

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run a network on a batch, on the network's device; return what it returns."""

    def describe(self) -> DataSection:
        """Return the data section of a receipt."""


@dataclass(frozen=True, kw_only=True)
class LoaderRows:
    """Batches that were read from somewhere; each is an item, and never cut or joined.

    Args:
        batches: on the CPU.
        name: what users call them.
        run: how a network reads one; by what it is if None.
        masking: which steps of one count.
    """

    batches: tuple[Any, ...]
    name: str = ""
    run: Forward | None = None
    masking: Masking = None

    def __len__(self) -> int:
        return len(self.batches)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all tensors, and of the masks over them."""
        masks = [self._valid(batch) for batch in self.batches] if self.masking else []
        return digest_of([self.batches, masks])

    def take(self, index: Int64[Tensor, "i"]) -> LoaderRows:
        """Return the chosen batches."""
        return replace(self, batches=tuple(self.batches[place] for place in index.tolist()))

    def ranges(self, size: int, within: range | None = None) -> list[range]:
        """Return every batch by itself, as it came, whatever the ``size``."""
        del size
        return in_parts(1, range(len(self)) if within is None else within)

    def batch(self, items: range) -> Batch:
        """Return one batch."""
        if len(items) != 1:
            raise InputError(f"{len(items)} batches in one", allowed="one at a time: see `ranges`")
        inputs = self.batches[items.start]
        return Batch(inputs=inputs, valid=self._valid(inputs), count=_count(inputs))

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run a network on a batch, on the network's device and in its type."""
        return (self.run or _by_kind)(model, placed(batch.inputs, model))

    def describe(self) -> DataSection:
        """Return name, digest and numbers."""
        counts = {"batches": len(self), "rows": sum(map(_count, self.batches))}
        name = self.name or "batches"
        return DataSection(name=name, sha256=self.fingerprint, counts=counts)

    def _valid(self, inputs: Any) -> Valid:
        if self.masking is None:
            return None
        found = _named(inputs, self.masking) if isinstance(self.masking, str) else None
        if callable(self.masking):
            found = self.masking(inputs)
        if isinstance(found, Mapping):
            return {name: _checked(mask) for name, mask in found.items()}
        mask = _checked(found)
        if not isinstance(mask, Tensor):
            raise InputError(
                f"{len(mask)} masks for a batch", allowed="one mask (b, l)",
                next_step="name the sites they belong to: {'mixer': [mask, flipped mask]}",
            )  # fmt: skip
        return where_some(mask)


def rows(
    source: Any,
    forward: Forward | None = None,
    valid: Masking = None,
    name: str = "",
    *,
    batch_size: int = 8,
) -> Rows:
    """Make rows of anything that yields batches: a ``DataLoader``, a list, a ``Dataset``.

    It is read once and kept on the CPU, so that a loader that shuffles stays the same from one
    pass to the next.

    Args:
        source: yields batches: tensors, or tuples, dicts and objects that hold them.
        forward: ``(model, batch) → outputs``; by default ``model(batch)`` for a tensor,
            ``model(batch[0])`` for a tuple or list, and for a dict ``model(**batch)`` with those
            keys that the network's forward takes. The batch is on the network's device by then.
        valid: which steps count: a key of the batch, or a function of it that returns a mask
            (b, l); or a dict of masks by name of a site, or a pattern of names, each a mask or one
            for each time the site is called. All steps if None.
        name: what to call them in receipts.
        batch_size: rows in a batch, for a data set that does not come in batches.

    Returns:
        The rows; what are rows already is returned as it is.

    Raises:
        InputError: if the source yields no batches, or rows are told how to be read.
        DataError: if there is no batch.
    """
    if isinstance(source, Rows):
        if forward is not None or valid is not None:
            raise InputError(f"{type(source).__name__} knows how it is read", allowed="no forward")
        return source
    check_integer("batch_size", batch_size, at_least=1)
    batches = tuple(mapped(batch, _kept) for batch in _batches(source, batch_size))
    if not batches:
        raise DataError(f"{name or 'the source'} yields no batch", next_step="give it some data")
    found = LoaderRows(batches=batches, name=name, run=forward, masking=valid)
    for batch in batches:
        if next(tensors_in(batch), None) is None:
            raise InputError(
                f"a batch is a {type(batch).__name__} without a tensor",
                allowed="tensors, or tuples, dicts and objects that hold them",
            )
        found._valid(batch)
    return found


def as_rows(source: Any) -> Rows:
    """Return what a verb was given as rows.

    Data of several splits is refused, as one must be chosen.
    """
    plain = isinstance(source, Rows | str | bytes | Tensor)
    if not plain and callable(getattr(source, "split", None)):
        raise InputError(
            f"data is a {type(source).__name__} of several splits", allowed="rows of one of them",
            next_step="data.split('train'), or text.sample(64, 2048) for a text",
        )  # fmt: skip
    return rows(source)


def in_parts(size: int, whole: range) -> list[range]:
    """Return a range in parts of at most ``size``."""
    starts = range(whole.start, whole.stop, size)
    return [range(start, min(start + size, whole.stop)) for start in starts]


def where_some(mask: Bool[Tensor, "b l"]) -> Bool[Tensor, "b l"] | None:
    """Return a mask, or None if all steps count."""
    return None if bool(mask.all()) else mask


def _batches(source: Any, size: int) -> Iterator[Any]:
    kind = type(source).__name__
    if hasattr(source, "column_names") and hasattr(source, "with_format"):
        source = source.with_format("torch")
        if hasattr(source, "iter"):
            return iter(source.iter(batch_size=size))
        parts = in_parts(size, range(len(source)))
        return (source[part.start : part.stop] for part in parts)
    if isinstance(source, data.Dataset):
        return iter(data.DataLoader(source, batch_size=size))
    if isinstance(source, Tensor | Mapping | str | bytes) or not isinstance(source, Iterable):
        raise InputError(
            f"rows are a {kind}", allowed="a loader or a list of batches, or a data set",
            next_step="put a single batch into a list: [batch]",
        )  # fmt: skip
    return iter(source)


def _kept(tensor: Tensor) -> Tensor:
    """Return a tensor in memory of its own: a loader may write the next batch into it."""
    return tensor.detach().to("cpu", copy=True)


def _count(batch: Any) -> int:
    """Return the size of the first axis of a batch's first tensor; 0 if it has none."""
    return next((len(tensor) for tensor in tensors_in(batch) if tensor.ndim), 0)


def _by_kind(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        return model(inputs)
    if isinstance(inputs, list | tuple) and inputs and isinstance(inputs[0], Tensor):
        return model(inputs[0])
    if not isinstance(inputs, Mapping):
        raise InputError(
            f"a batch is a {type(inputs).__name__}",
            allowed="a tensor, a tuple or list that begins with one, a dict of what forward takes",
            next_step=_HOW,
        )
    signature = inspect.signature(model.forward)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    takes = [name for name, item in signature.parameters.items() if item.kind in named]
    known = {name: inputs[name] for name in takes if name in inputs}
    try:
        signature.bind(**known)
    except TypeError:
        known = {}
    if not known:
        raise InputError(
            f"a batch has the keys {', '.join(map(str, inputs))}, and {type(model).__name__} takes "
            f"{', '.join(takes) or 'none by name'}",
            allowed="keys that forward takes",
            next_step=_HOW,
        )
    return model(**known)


def _named(inputs: Any, key: str) -> Any:
    if not isinstance(inputs, Mapping) or key not in inputs:
        there = ", ".join(map(str, inputs)) if isinstance(inputs, Mapping) else "no keys"
        raise InputError(f"valid is {key!r}, and a batch has {there}", allowed="a key of the batch")
    return inputs[key]


def _checked(mask: Any) -> Any:
    """Return masks as booleans."""
    if isinstance(mask, list | tuple):
        return [_checked(item) for item in mask]
    found = torch.as_tensor(mask) if not isinstance(mask, Tensor) else mask
    if found.ndim != 2:
        raise InputError(
            f"a mask of shape {tuple(found.shape)}", allowed="(b, l), one value for each step",
            next_step="valid=lambda batch: batch['mask'].flatten(1)",
        )  # fmt: skip
    return found.bool()
