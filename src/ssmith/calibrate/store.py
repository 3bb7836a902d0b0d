"""Where a pass keeps what it has done: in memory, or in a directory it can go on from."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from ssmith.core.errors import ArtefactError, InputError
from ssmith.core.files import is_scrap, read_json, write_bytes, write_json
from ssmith.core.identity import as_json, check_same_run
from ssmith.core.selective import BlockRecord
from ssmith.core.settings import typed
from ssmith.families.state import SiteState

_PASS = "pass.json"
_KINDS, _OF_RECORDS = ("tensors", "masks"), ("keep", "values")
_RESTART = "remove the working directory and start again"
Outcome = tuple[SiteState, tuple[BlockRecord, ...]]


@runtime_checkable
class PassStore(Protocol):
    """What flows between parts, and what became of each site."""

    def finished(self) -> int:
        """Return how many sites are done and need not be done again."""

    def holds(self, index: int, batches: Collection[str]) -> bool:
        """Return whether all these batches are here as part ``index`` is given them."""

    def read(self, index: int, batch: str) -> tuple[Tensor, ...]:
        """Return what flows into part ``index`` in a batch."""

    def write(self, index: int, batch: str, flowing: Sequence[Tensor]) -> None:
        """Keep what will flow into part ``index`` in a batch."""

    def drop(self, index: int, batches: Collection[str]) -> None:
        """Forget what flowed into part ``index``: all of it has gone through."""

    def finish(self, site: str, state: SiteState, records: Sequence[BlockRecord]) -> None:
        """Keep what became of a site."""

    def outcome(self, site: str) -> Outcome:
        """Return what became of a site that is done."""


@dataclass(frozen=True, kw_only=True)
class MemoryStore:
    """Everything in memory; nothing outlives the process.

    ``flows`` holds the latest version of each batch.
    """

    lasting: bool = True
    flows: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def finished(self) -> int:
        return len(self.outcomes)

    def holds(self, index: int, batches: Collection[str]) -> bool:
        """Return whether a part before has handed them on: one begins where nothing has."""
        return all(batch in self.flows for batch in batches)

    def read(self, index: int, batch: str) -> tuple[Tensor, ...]:
        return self.flows[batch]

    def write(self, index: int, batch: str, flowing: Sequence[Tensor]) -> None:
        self.flows[batch] = tuple(flowing)

    def drop(self, index: int, batches: Collection[str]) -> None:
        """Do nothing: the next version stands in its place."""

    def finish(self, site: str, state: SiteState, records: Sequence[BlockRecord]) -> None:
        nothing = SiteState(tensors={})
        self.outcomes[site] = (state if self.lasting else nothing, tuple(records))

    def outcome(self, site: str) -> Outcome:
        return self.outcomes[site]


@dataclass(frozen=True, kw_only=True)
class DirectoryStore:
    """Files, each whole or absent, so that a pass that was killed goes on where it was.

    ``identity`` is everything the pass's result depends on; ``writes`` says whether this process
    writes what became of the sites (the first of a group), ``lasting`` whether anybody does.
    """

    directory: Path
    identity: Mapping[str, Any]
    sites: Sequence[str]
    writes: bool = True
    lasting: bool = True

    def open(self) -> None:
        """Begin here, or go on if the directory holds the same pass."""
        path = self.directory / _PASS
        if path.is_file():
            there = read_json(path)
            check_same_run(
                there if isinstance(there, dict) else {},
                self.identity,
                what=str(self.directory),
                next_step="choose another working directory, or repeat the same command",
            )
            return
        # What a process that was killed had not yet renamed is nobody's.
        if not all(is_scrap(item.name) for item in self.directory.glob("*")):
            raise InputError(
                f"{self.directory} is not empty and holds no pass", allowed="an empty directory"
            )
        if self.writes:
            write_json(path, as_json(self.identity))

    def finished(self) -> int:
        """Return how many sites have their file."""
        there = [self._site(site).is_file() for site in self.sites]
        return there.index(False) if False in there else len(there)

    def holds(self, index: int, batches: Collection[str]) -> bool:
        return all(self._flow(index, batch).is_file() for batch in batches)

    def read(self, index: int, batch: str) -> tuple[Tensor, ...]:
        found = _read(self._flow(index, batch))[0]
        return tuple(found[str(place)] for place in range(len(found)))

    def write(self, index: int, batch: str, flowing: Sequence[Tensor]) -> None:
        tensors = {str(place): item.contiguous() for place, item in enumerate(flowing)}
        write_bytes(self._flow(index, batch), to_safetensors(tensors))

    def drop(self, index: int, batches: Collection[str]) -> None:
        for batch in batches:
            self._flow(index, batch).unlink(missing_ok=True)

    def finish(self, site: str, state: SiteState, records: Sequence[BlockRecord]) -> None:
        if self.writes and self.lasting:
            write_bytes(self._site(site), _packed(state, records))

    def outcome(self, site: str) -> Outcome:
        path = self._site(site)
        return _unpacked(*_read(path), str(path))

    def _site(self, site: str) -> Path:
        return self.directory / f"site-{self.sites.index(site):04}.safetensors"

    def _flow(self, index: int, batch: str) -> Path:
        return self.directory / f"flow-{index:04}-{batch}.safetensors"


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: file.get_tensor(name) for name in file.offset_keys()
            }, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ArtefactError(
            f"{path} cannot be read ({error})",
            next_step=_RESTART,
        ) from error


def _packed(state: SiteState, records: Sequence[BlockRecord]) -> bytes:
    tensors = {
        f"{kind}/{name}": value.contiguous()
        for kind in _KINDS
        for name, value in getattr(state, kind).items()
    }
    for number, record in enumerate(records):
        for kind in _OF_RECORDS:
            for name, value in getattr(record, kind).items():
                tensors[f"{kind}/{number}/{name}"] = value.cpu().clone(
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


@dataclass(frozen=True, kw_only=True)
class _Record:
    """`BlockRecord` in a file, its masks aside."""

    layer: str
    stage: str
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """`SiteState` and its records in a file, their tensors aside."""

    fills: dict[str, float]
    semantics: str | None
    records: tuple[_Record, ...]


def _parsed(metadata: Mapping[str, str], where: str) -> Any:
    try:
        return json.loads(metadata["facts"])
    except (KeyError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{where} lacks its facts ({error})", next_step=_RESTART) from error


def _unpacked(
    tensors: dict[str, Tensor], metadata: dict[str, str], where: str
) -> tuple[SiteState, tuple[BlockRecord, ...]]:
    facts = typed(_Facts, _parsed(metadata, where), where=where, next_step=_RESTART)

    def under(kind: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(f"{kind}/"): value
            for name, value in tensors.items()
            if name.startswith(f"{kind}/")
        }

    state = SiteState(
        tensors=under("tensors"),
        masks={name: mask.to(torch.bool) for name, mask in under("masks").items()},
        fills=facts.fills,
        semantics=facts.semantics,
    )
    records = tuple(
        BlockRecord(
            layer=item.layer,
            stage=item.stage,
            facts=item.facts,
            **{kind: under(f"{kind}/{number}") for kind in _OF_RECORDS},
        )
        for number, item in enumerate(facts.records)
    )
    return state, records
