"""Answers to more rows than are held at once: kept on disk as they come, and gone on from."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError
from ssmith.core.files import is_scrap, write_bytes, write_json
from ssmith.core.identity import check_same_run
from ssmith.core.settings import read_typed, to_mapping, typed
from ssmith.serving.writing import write_tables

_RUN, _WHOLE, ORDER, _FACTS = "run.json", "whole", "order", b"facts"
_OWN = re.compile(r"run\.json|whole|order(/\d+)?|\d{6}\.arrow")
_AGAIN = "pass --overwrite to begin anew"


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What answers depend on."""

    identity: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """What is known after a part, of it and of all before it: rows, labels, sums of their score."""

    rows: int = 0
    labelled: int = 0
    sums: dict[str, float] = field(default_factory=dict)


class KeptParts:
    """The directory beside an output that holds its parts until all are there."""

    def __init__(self, out: Path) -> None:
        self.out, self.place = out, out.with_name(f"{out.name}.parts")

    def sweep_finished(self) -> None:
        """Remove the parts of an output that was written, and the run killed right after that."""
        with suppress(OSError):
            if (self.place / _WHOLE).stat().st_mtime_ns <= self.out.stat().st_mtime_ns:
                self.remove()

    def open(self, identity: Mapping[str, Any], *, overwrite: bool) -> PartFacts:
        """Begin, or go on with the parts of the same run; returns what is done."""
        path = self.place / _RUN
        if self.place.exists():
            self._refuse_strangers()
        if path.is_file():
            there = read_typed(RunFacts, path, next_step=_AGAIN)
            try:
                check_same_run(there.identity, identity, what=str(self.place), next_step=_AGAIN)
            except ArtefactError:
                if not overwrite:
                    raise
                self.remove()
        if not path.is_file():
            write_json(path, to_mapping(RunFacts(identity=dict(identity))))
        shutil.rmtree(self.place / ORDER, ignore_errors=True)
        parts = self._parts()
        return self._facts(parts[-1]) if parts else PartFacts()

    def add(self, table: Any, facts: PartFacts) -> None:
        """Keep the answers to some more rows, whole or not at all."""
        lib, ipc = import_module("pyarrow"), import_module("pyarrow.ipc")
        content = json.dumps(to_mapping(facts), sort_keys=True).encode()
        named = table.replace_schema_metadata({_FACTS: content})
        sink = lib.BufferOutputStream()
        with ipc.new_file(sink, named.schema) as out:
            out.write_table(named)
        number = len(self._parts())
        write_bytes(self.place / f"{number:06}.arrow", sink.getvalue().to_pybytes())

    def finish(self, last: Any | None) -> None:
        """Write the output from all parts, and those that are in memory; remove the parts."""
        parts = self._parts()
        (self.place / _WHOLE).touch()
        schemas = [self._opened(path).schema.remove_metadata() for path in parts]
        schemas += [] if last is None else [last.schema]

        def tables() -> Iterator[Any]:
            for path in parts:
                yield self._table(path)
            if last is not None:
                yield last

        write_tables(self.out, schemas, tables())
        self.remove()

    def remove(self) -> None:
        """Remove all parts."""
        self._refuse_strangers()
        shutil.rmtree(self.place, ignore_errors=True)

    def is_begun(self) -> bool:
        """Return whether there are parts to go on from."""
        return bool(self._parts())

    def _parts(self) -> list[Path]:
        return sorted(self.place.glob("[0-9]*.arrow"))

    def _opened(self, path: Path) -> Any:
        lib, ipc = import_module("pyarrow"), import_module("pyarrow.ipc")
        try:
            return ipc.open_file(lib.memory_map(str(path)))
        except (OSError, lib.ArrowException) as error:
            raise _unreadable(path, error) from error

    def _table(self, path: Path) -> Any:
        lib = import_module("pyarrow")
        try:
            found = self._opened(path).read_all()
            found.validate(full=True)
        except (OSError, lib.ArrowException) as error:
            raise _unreadable(path, error) from error
        return found.replace_schema_metadata(None)

    def _facts(self, path: Path) -> PartFacts:
        said = (self._opened(path).schema.metadata or {}).get(_FACTS, b"null")
        try:
            content = json.loads(said)
        except (ValueError, RecursionError) as error:
            raise ArtefactError(f"{path} is no part of answers", next_step=_AGAIN) from error
        return typed(PartFacts, content, where=str(path), next_step=_AGAIN)

    def _refuse_strangers(self) -> None:
        names = [item.relative_to(self.place).as_posix() for item in self.place.rglob("*")]
        own = (bool(_OWN.fullmatch(name)) or is_scrap(Path(name).name) for name in names)
        others = [name for name, ours in zip(names, own, strict=True) if not ours]
        if others or not self.place.is_dir():
            raise ArtefactError(
                f"{self.place} holds {', '.join(sorted(others)[:3]) or 'something else'}",
                allowed="nothing there but parts of answers that a run was interrupted in",
                next_step="choose another --out, or move it away",
            )


def state_of(source: str) -> dict[str, Any]:
    """Return what a file or folder is now: names, sizes and times of change."""
    path = Path(source)
    if not path.exists():
        return {"path": source}
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    digest, size = hashlib.sha256(), 0
    for item in files:
        about = item.stat()
        size += about.st_size
        name = item.relative_to(path).as_posix()
        digest.update(f"{name}|{about.st_size}|{about.st_mtime_ns}\n".encode())
    return {
        "path": path.name, "files": len(files), "bytes": size, "changed": digest.hexdigest()[:16],
    }  # fmt: skip


def _unreadable(path: Path, error: Exception) -> ArtefactError:
    return ArtefactError(f"cannot read {path}: {error}", next_step=_AGAIN)
