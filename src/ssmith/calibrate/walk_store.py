"""Where a walk keeps what it has done: in memory, or in a directory it can go on from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.files import read_json, write_bytes, write_json
from ssmith.core.selective import BlockRecord
from ssmith.families.hf.blocks import BlockState

_WALK = "walk.json"
_KINDS = ("tensors", "masks")


@runtime_checkable
class WalkStore(Protocol):
    """What flows between blocks, and what became of each block."""

    def finished(self) -> int:
        """Return how many blocks are done and need not be done again."""

    def read(self, index: int, batch: str) -> Tensor:
        """Return a batch as block ``index`` is given it."""

    def write(self, index: int, batch: str, hidden: Tensor) -> None:
        """Keep a batch as block ``index`` will be given it."""

    def finish(self, index: int, state: BlockState, records: Sequence[BlockRecord]) -> None:
        """Keep what became of a block; all its batches have been handed on."""

    def outcome(self, index: int) -> tuple[BlockState, tuple[BlockRecord, ...]]:
        """Return what became of a block that is done."""


@dataclass
class MemoryStore:
    """Everything in memory; nothing outlives the process.

    Args:
        batches: the latest version of each batch.
    """

    batches: dict[str, Tensor] = field(default_factory=dict)

    def finished(self) -> int:
        """Return 0: nothing was done before."""
        return 0

    def read(self, index: int, batch: str) -> Tensor:
        """Return the batch's latest version."""
        del index
        return self.batches[batch]

    def write(self, index: int, batch: str, hidden: Tensor) -> None:
        """Replace the batch: it has been read for the last time."""
        del index
        self.batches[batch] = hidden

    def finish(self, index: int, state: BlockState, records: Sequence[BlockRecord]) -> None:
        """Do nothing: the block itself lasts."""

    def outcome(self, index: int) -> tuple[BlockState, tuple[BlockRecord, ...]]:
        """Refuse: nothing was done before."""
        raise NotImplementedError(f"block {index} lasts in the model itself")


@dataclass(frozen=True)
class DirectoryStore:
    """Files, each whole or absent, so that a walk that was killed goes on where it was.

    Args:
        directory: made if need be.
        fingerprint: everything the walk's result depends on.
        writes: whether this process writes what became of the blocks (the first of a group).
        lasting: whether anybody does.
    """

    directory: Path
    fingerprint: str
    writes: bool = True
    lasting: bool = True

    def open(self) -> None:
        """Begin here, or go on if the directory holds the same walk.

        Raises:
            InputError: if it holds another one.
        """
        path = self.directory / _WALK
        if path.is_file():
            found = read_json(path)
            if found != {"fingerprint": self.fingerprint}:
                raise InputError(
                    f"{self.directory} holds a walk over another model, text or method",
                    allowed="an empty directory, or that of the same command",
                    next_step="choose another --work-dir",
                )
            return
        if self.directory.is_dir() and any(self.directory.iterdir()):
            raise InputError(
                f"{self.directory} is not empty and holds no walk", allowed="an empty directory"
            )
        if self.writes:
            write_json(path, {"fingerprint": self.fingerprint})

    def finished(self) -> int:
        """Return how many blocks have their file."""
        count = 0
        while self._block(count).is_file():
            count += 1
        return count

    def read(self, index: int, batch: str) -> Tensor:
        """Read a batch."""
        return _read(self._batch(index, batch))[0]["hidden"]

    def write(self, index: int, batch: str, hidden: Tensor) -> None:
        """Write a batch."""
        write_bytes(self._batch(index, batch), to_safetensors({"hidden": hidden.contiguous()}))

    def finish(self, index: int, state: BlockState, records: Sequence[BlockRecord]) -> None:
        """Write a block's file; what it was given is not needed again."""
        if self.writes and self.lasting:
            write_bytes(self._block(index), _packed(state, records))
        for path in self.directory.glob(f"hidden-{index:04}-*"):
            path.unlink(missing_ok=True)

    def outcome(self, index: int) -> tuple[BlockState, tuple[BlockRecord, ...]]:
        """Read a block's file."""
        return _unpacked(*_read(self._block(index)))

    def _block(self, index: int) -> Path:
        return self.directory / f"block-{index:04}.safetensors"

    def _batch(self, index: int, batch: str) -> Path:
        return self.directory / f"hidden-{index:04}-{batch}.safetensors"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: file.get_tensor(name) for name in file.offset_keys()
            }, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ArtefactError(
            f"{path} cannot be read ({error})",
            next_step="remove the working directory and start again",
        ) from error


def _packed(state: BlockState, records: Sequence[BlockRecord]) -> bytes:
    tensors = {
        f"{kind}/{name}": value.contiguous()
        for kind in _KINDS
        for name, value in getattr(state, kind).items()
    }
    for number, record in enumerate(records):
        for unit, mask in record.keep.items():
            tensors[f"keep/{number}/{unit}"] = mask.cpu().clone(
                memory_format=torch.contiguous_format
            )
    facts = {
        "fills": state.fills,
        "semantics": state.semantics,
        "records": [
            {"layer": item.layer, "stage": item.stage, "facts": item.facts} for item in records
        ],
    }
    return to_safetensors(tensors, {"facts": json.dumps(facts, sort_keys=True)})


def _unpacked(
    tensors: dict[str, Tensor], metadata: dict[str, str]
) -> tuple[BlockState, tuple[BlockRecord, ...]]:
    facts: dict[str, Any] = json.loads(metadata["facts"])
    kinds = {
        kind: {
            name.removeprefix(f"{kind}/"): value
            for name, value in tensors.items()
            if name.startswith(f"{kind}/")
        }
        for kind in (*_KINDS, *(f"keep/{number}" for number in range(len(facts["records"]))))
    }
    state = BlockState(
        tensors=kinds["tensors"],
        masks={name: mask.to(torch.bool) for name, mask in kinds["masks"].items()},
        fills=facts["fills"],
        semantics=facts["semantics"],
    )
    records = tuple(
        BlockRecord(keep=kinds[f"keep/{number}"], **item)
        for number, item in enumerate(facts["records"])
    )
    return state, records
