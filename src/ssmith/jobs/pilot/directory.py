"""What a pilot has finished so far: one JSON file per stage, so that a killed run goes on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ssmith.core.errors import ArtefactError, InputError, OutputExistsError
from ssmith.core.files import read_json, to_json, write_json

STAGES = "stages"
RUN = "run"
# What an interrupted write leaves: a dot, the name it was to get, and eight random characters.
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}")


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

        Nothing but an earlier pilot is ever thrown away. Returns the command line of the first run,
        so that resuming does not change the receipt.
        """
        path = self._path(RUN)
        ours = path.is_file() or self._barely_begun()
        if ours and overwrite:
            _remove(self.out)
        elif ours and resume:
            for item in self._leftovers():
                _remove(item)
        else:
            self._refuse_occupied(ours=ours)
        if not path.is_file():
            # One file, so that there is no moment at which only half of it is known.
            write_json(path, {"identity": identity, "command": list(command)})
        there = read_json(path)
        if not isinstance(there, dict) or set(there) != {"identity", "command"}:
            raise ArtefactError(f"{path} is not of a pilot", next_step="pass --overwrite")
        _refuse_other(there["identity"], identity, self.out)
        first: list[str] = there["command"]
        return first

    def cached(self, stage: str, compute: Callable[[], Any]) -> Any:
        """Return a stage's result, computed only if its file is not there."""
        path = self._path(stage)
        if not path.is_file():
            write_json(path, compute())
        return read_json(path)

    def _path(self, stage: str) -> Path:
        return self.out / STAGES / f"{stage}.json"

    def _leftovers(self) -> Iterator[Path]:
        for place in (self.out, self.out / STAGES, self.out / "plots"):
            yield from [item for item in place.glob(".*") if _LEFTOVER.fullmatch(item.name)]

    def _barely_begun(self) -> bool:
        """Whether a pilot was killed here before its first file was whole."""
        found = set(self.out.rglob("*")) - set(self._leftovers())
        return self.out.is_dir() and found <= {self.out / STAGES}

    def _refuse_occupied(self, *, ours: bool) -> None:
        if not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir())):
            return
        raise OutputExistsError(
            f"output {self.out} already exists" + ("" if ours else " and holds no pilot"),
            allowed="a path that is free, or an earlier pilot with --overwrite or --resume",
            next_step="choose another path"
            + (", pass --overwrite, or --resume to go on with it" if ours else ""),
        )


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


def _refuse_other(there: dict[str, Any], identity: dict[str, Any], out: Path) -> None:
    changed = [
        key
        for key in sorted({*there, *identity})
        if to_json(there.get(key)) != to_json(identity.get(key))
    ]
    if changed:
        raise InputError(
            f"{out} was started with another {', '.join(changed)}",
            allowed="the same model, data and settings",
            next_step="choose another output, or pass --overwrite",
        )
