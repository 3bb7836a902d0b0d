"""What a pilot has finished so far: one JSON file per stage, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ssmith.core.directories import refuse_strangers, strangers_in, write_manifest
from ssmith.core.errors import ArtefactError, OutputExistsError
from ssmith.core.files import is_scrap, read_json, to_json, write_json
from ssmith.core.identity import check_same_run
from ssmith.core.settings import read_typed, to_mapping, typed
from ssmith.jobs.pilot.saving import MODEL
from ssmith.report.page import PLOTS

Kept = TypeVar("Kept")

STAGES = "stages"
RUN = "run"
_OWN = re.compile(
    r"(manifest|plan|receipt)\.json|plan\.safetensors|recipe\.yaml|report\.html|plots/"
    + PLOTS.pattern
    + r"|stages/(run|baseline|measured|(sweep|refine|recover)-[^/]+)"
    r"(\.json|\.safetensors|\.safetensors\.curve\.json)"
)
"""What a pilot writes, beside the files of its model."""


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """The first file of a pilot."""

    identity: dict[str, Any]
    command: list[str]


@dataclass(frozen=True, kw_only=True)
class _Finished:
    """The file of a stage; what is in it is used only if nobody changed it."""

    result: dict[str, Any]
    sha256: str


class RunDirectory:
    """The stages of one pilot below its output directory.

    A stage's result always takes the way through its file, so that a resumed run works with the
    very same numbers as one that was never interrupted.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def open(
        self, identity: dict[str, Any], command: Sequence[str], *, resume: bool, overwrite: bool
    ) -> list[str]:
        """Start afresh, or go on with what is there.

        Nothing but what an earlier pilot wrote is ever thrown away. Returns the command line of the
        first run, so that resuming does not change the receipt.
        """
        path = self._path(RUN)
        ours = self._is_pilot()
        if ours and (overwrite or resume):
            refuse_strangers(self.out, self._strangers())
        if ours and overwrite:
            _remove(self.out)
        elif ours and resume:
            for item in self.out.rglob(".*"):
                if is_scrap(item.name):
                    _remove(item)
        else:
            self._refuse_occupied(ours=ours)
        if not path.is_file():
            # One file, so that there is no moment at which only half of it is known.
            write_json(path, {"identity": identity, "command": list(command)})
        there = read_typed(_Begun, path, next_step="pass --overwrite")
        check_same_run(
            there.identity,
            identity,
            what=str(self.out),
            next_step="choose another output, or pass --overwrite",
        )
        return there.command

    def close(self) -> None:
        """List all that was written, once it is: it can be checked, and replaced, from then on."""
        write_manifest(self.out)

    def cached(self, stage: str, kind: type[Kept], compute: Callable[[], Kept]) -> Kept:
        """Return a stage's result, computed only if its file is not there."""
        path, again = self._path(stage), "delete it, and --resume"
        if not path.is_file():
            result = to_mapping(compute())
            write_json(path, {"result": result, "sha256": _digest(result)})
        there = read_typed(_Finished, path, next_step=again)
        if _digest(there.result) != there.sha256:
            raise ArtefactError(f"{path} is not what this pilot wrote", next_step=again)
        return typed(kind, there.result, where=str(path), next_step=again)

    def _path(self, stage: str) -> Path:
        return self.out / STAGES / f"{stage}.json"

    def _is_pilot(self) -> bool:
        """Whether a pilot was begun here; one may have been killed before its first file."""
        path = self._path(RUN)
        if not path.is_file():
            there = [item for item in self.out.rglob("*") if not item.is_dir()]
            begun = self.out.is_dir() and (self.out / STAGES).is_dir()
            return begun and all(
                item.parent.name == STAGES and is_scrap(item.name) for item in there
            )
        content = read_json(path)
        return isinstance(content, dict) and set(content) == {"identity", "command"}

    def _strangers(self) -> list[str]:
        """Return what neither this pilot nor one that was killed here has written."""
        inner = self.out / MODEL
        own = {f"{MODEL}/{name}" for name in strangers_in(inner)} if inner.is_dir() else set()
        return [
            name
            for name in strangers_in(self.out)
            if name in own or not (name.startswith(f"{MODEL}/") or _OWN.fullmatch(name))
        ]

    def _refuse_occupied(self, *, ours: bool) -> None:
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return
        raise OutputExistsError(
            f"output {self.out} already exists" + ("" if ours else " and holds no pilot"),
            allowed="a path that is free, or an earlier pilot with --overwrite or --resume",
            next_step="choose another path"
            + (", pass --overwrite, or --resume to go on with it" if ours else ""),
        )


def _digest(result: Any) -> str:
    return hashlib.sha256(to_json(result).encode()).hexdigest()


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ArtefactError(
            f"cannot remove {path}: {error.strerror or error}", next_step="choose another output"
        ) from error
