"""What a pilot has finished so far: one JSON file per stage, so that a killed run goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ssmith.core.errors import InputError, OutputExistsError
from ssmith.core.files import read_json, to_json, write_json

STAGES = "stages"
IDENTITY = "run"


class Store:
    """The stages of one pilot below its output directory.

    A stage's result always takes the way through its file, so that a resumed run works with the
    very same numbers as one that was never interrupted.

    Args:
        out: the pilot's output directory.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def open(self, identity: dict[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Start afresh, or go on with what is there.

        Args:
            identity: everything the results depend on.
            resume: go on with an interrupted run; a fresh start if there is none.
            overwrite: throw away what is there.

        Raises:
            OutputExistsError: if something is there and neither was asked for.
            InputError: if what is there was run with other settings, model or data.
        """
        path = self._path(IDENTITY)
        occupied = self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir()))
        if occupied and overwrite:
            _remove(self.out)
        elif occupied and not (resume and path.is_file()):
            raise OutputExistsError(
                f"output {self.out} already exists" + (" and holds no pilot" if resume else ""),
                allowed="a path that is free",
                next_step="choose another path, or pass --overwrite"
                + ("" if resume else ", or --resume to go on with an interrupted pilot"),
            )
        if path.is_file():
            _refuse_other(read_json(path), identity, self.out)
        else:
            write_json(path, identity)

    def once(self, stage: str, compute: Callable[[], Any]) -> Any:
        """Return a stage's result, computed only if its file is not there."""
        path = self._path(stage)
        if not path.is_file():
            write_json(path, compute())
        return read_json(path)

    def _path(self, stage: str) -> Path:
        return self.out / STAGES / f"{stage}.json"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _refuse_other(there: Any, identity: dict[str, Any], out: Path) -> None:
    if to_json(there) == to_json(identity):
        return
    known = there if isinstance(there, dict) else {}
    changed = sorted(
        key for key in set(known) | set(identity) if known.get(key) != identity.get(key)
    )
    raise InputError(
        f"{out} was started with another {', '.join(changed)}",
        allowed="the same model, data and settings",
        next_step="choose another output, or pass --overwrite",
    )
