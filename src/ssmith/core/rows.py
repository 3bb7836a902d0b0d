"""Rows: what a network is run on, whatever they are: sequences, windows of text, any batches."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.errors import DataError, InputError

Forward = Callable[[nn.Module, Any], Any]
Valid = Callable[[Any], Tensor]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some rows, as a network reads them.

    Args:
        inputs: what they are: a tensor, a tuple or a dict of tensors, or a part of the rows.
        valid: which steps count; None where all do.
        count: how many rows.
    """

    inputs: Any
    valid: Bool[Tensor, "b l"] | None
    count: int


@runtime_checkable
class Rows(Protocol):
    """Anything that a network can be run on, batch by batch, as often as one likes."""

    def __len__(self) -> int:
        """Return how many rows there are."""

    def ranges(self, size: int) -> list[range]:
        """Return ranges of rows that can share a batch, at most ``size`` in each, in order."""

    def batch(self, items: range) -> Batch:
        """Return some rows as one batch, on the CPU."""

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run a network on a batch, on the network's device; return what it returns."""

    def describe(self) -> dict[str, Any]:
        """Return the data section of a receipt."""


def rows(
    source: Any, forward: Forward | None = None, valid: Valid | None = None, *, name: str = "rows"
) -> Rows:
    """Make rows of anything that yields batches: a ``DataLoader``, a list, a ``Dataset``.

    It is read once and kept on the CPU, so that a loader that shuffles stays the same from one
    network to the next.

    Args:
        source: yields tensors, or tuples, lists and dicts of them, with rows along the first axis.
        forward: ``(model, batch) → outputs``; by default ``model(batch)``, ``model(**batch)`` for
            a dict and ``model(batch[0])`` for a tuple.
        valid: ``batch → mask`` (b, l) of the steps that count; by default all do.
        name: what users call it.

    Returns:
        The rows; what are rows already is returned as it is.

    Raises:
        InputError: if the source yields no batches, or rows have a ``forward`` of their own.
        DataError: if there is no row.
    """
    if isinstance(source, Rows):
        if forward is not None or valid is not None:
            raise InputError(f"{type(source).__name__} knows how it is read", allowed="no forward")
        return source
    if not isinstance(source, Iterable):
        raise InputError(f"rows are {type(source).__name__}", allowed="an iterable of batches")
    batches = tuple(on_device(batch, "cpu") for batch in source)
    counts = tuple(map(_count, batches))
    if not sum(counts):
        raise DataError(f"{name} holds no row")
    return _Loaded(
        batches=batches,
        starts=(0, *accumulate(counts)),
        run=forward or _plain_forward,
        mask=valid,
        name=name,
    )


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """Batches read from somewhere, cut and joined as asked."""

    batches: tuple[Any, ...]
    starts: tuple[int, ...]
    run: Forward
    mask: Valid | None
    name: str

    def __len__(self) -> int:
        return self.starts[-1]

    def ranges(self, size: int) -> list[range]:
        """Cut every batch as it came, because others may be padded to another length."""
        pairs = zip(self.starts[:-1], self.starts[1:], strict=True)
        return [part for first, last in pairs for part in cut_range(range(first, last), size)]

    def batch(self, items: range) -> Batch:
        """Return rows; they may come from several batches of one shape."""
        parts, at = [], items.start
        while at < items.stop:
            which = bisect_right(self.starts, at) - 1
            start, stop = self.starts[which], min(self.starts[which + 1], items.stop)
            parts.append(_rows_of(self.batches[which], at - start, stop - start))
            at = stop
        inputs = parts[0] if len(parts) == 1 else _joined(parts)
        valid = None if self.mask is None else self.mask(inputs).bool()
        return Batch(inputs=inputs, valid=valid, count=len(items))

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Run the network."""
        return self.run(model, on_device(batch.inputs, place_of(model)))

    def describe(self) -> dict[str, Any]:
        """Return name, digest and number of rows."""
        digest = hashlib.sha256()
        for tensor in (tensor for batch in self.batches for tensor in tensors_in(batch)):
            digest.update(f"{tensor.dtype}:{tuple(tensor.shape)};".encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
        return {
            "name": self.name,
            "sha256": digest.hexdigest(),
            "source": "",
            "counts": {"rows": len(self)},
            "details": {},
        }


def cut_range(whole: range, size: int) -> list[range]:
    """Return a range in parts of at most ``size``."""
    return [
        range(start, min(start + size, whole.stop))
        for start in range(whole.start, whole.stop, size)
    ]


def place_of(model: nn.Module) -> torch.device:
    """Return the device of a network's first parameter or buffer (CPU if there is none)."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def on_device(tree: Any, device: torch.device | str) -> Any:
    """Return a batch with every tensor on a device, cut from any graph."""
    return _leaves(tree, lambda leaf: leaf.detach().to(device) if torch.is_tensor(leaf) else leaf)


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Yield every tensor of a batch."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from tensors_in(item)
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from tensors_in(item)


def _leaves(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Return the same batch with every tensor and every list of other things changed."""
    if isinstance(tree, Mapping):
        return {key: _leaves(item, change) for key, item in tree.items()}
    if isinstance(tree, list | tuple) and any(True for _ in tensors_in(tree)):
        kind = tuple if isinstance(tree, tuple) else list
        return kind(_leaves(item, change) for item in tree)
    listed = isinstance(tree, Sequence) and not isinstance(tree, str)
    return change(tree) if listed or isinstance(tree, Tensor) else tree


def _rows_of(tree: Any, first: int, last: int) -> Any:
    return _leaves(tree, lambda leaf: leaf[first:last])


def _joined(parts: list[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple) or (
        isinstance(first, list) and any(True for _ in tensors_in(first))
    ):
        return tuple(_joined(list(item)) for item in zip(*parts, strict=True))
    if not isinstance(first, Tensor):
        return [item for part in parts for item in part] if isinstance(first, list) else first
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = ", ".join(str(tuple(part.shape[1:])) for part in parts)
        raise DataError(
            f"rows of shapes {shapes} in one batch",
            next_step="ask for fewer rows at once, or pad all batches alike",
        )
    return torch.cat(parts)


def _count(batch: Any) -> int:
    for tensor in tensors_in(batch):
        if tensor.ndim:
            return tensor.shape[0]
    raise InputError(
        f"a batch is {type(batch).__name__} without a tensor",
        allowed="tensors, or tuples, lists and dicts of them, with rows along the first axis",
    )


def _plain_forward(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(inputs[0] if isinstance(inputs, list | tuple) else inputs)
