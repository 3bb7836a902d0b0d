"""What was measured of shallower models, in a file to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssmith.core.errors import InputError
from ssmith.core.files import is_scrap, write_json
from ssmith.core.identity import as_json, check_same_run
from ssmith.core.settings import read_typed

TRIALS = "trials.json"
_OTHER = "choose another working directory, or repeat the same command"


@dataclass(frozen=True)
class _Kept:
    """`Trials` in their file."""

    identity: dict[str, Any]
    perplexities: dict[str, float]


@dataclass(frozen=True)
class Trials:
    """Perplexities by the blocks that were left out.

    Args:
        path: where they are kept; None in memory only.
        identity: what they depend on.
        found: by the numbers of the blocks.
    """

    path: Path | None
    identity: Mapping[str, Any]
    found: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path | None, identity: Mapping[str, Any]) -> Trials:
        """Open a working directory, or make it."""
        if directory is None:
            return cls(None, identity)
        path = directory / TRIALS
        if path.is_file():
            there = read_typed(_Kept, path, next_step=_OTHER)
            check_same_run(there.identity, identity, what=str(directory), next_step=_OTHER)
            return cls(path, identity, there.perplexities)
        others = [directory] if directory.is_file() else directory.glob("*")
        if not all(is_scrap(item.name) for item in others):
            raise InputError(
                f"{directory} is not empty", allowed="a directory that is new or empty",
                next_step="choose another working directory",
            )  # fmt: skip
        directory.mkdir(parents=True, exist_ok=True)
        trials = cls(path, identity)
        trials._write()
        return trials

    def loss(self, gone: Sequence[int], measure: Callable[[], float]) -> float:
        """Return the perplexity without some blocks, measured unless it was before."""
        # Whichever of them went first, the model is the same.
        key = ",".join(str(block) for block in sorted(gone))
        if key not in self.found:
            self.found[key] = measure()
            self._write()
        return self.found[key]

    def _write(self) -> None:
        if self.path is not None:
            write_json(self.path, {"identity": as_json(self.identity), "perplexities": self.found})
