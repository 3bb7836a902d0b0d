"""What was measured of shallower models, in a file to go on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssmith.core.errors import InputError
from ssmith.core.files import read_json, write_json

TRIALS = "trials.json"


@dataclass(frozen=True)
class Trials:
    """Perplexities by the blocks that were left out.

    They depend on the ``fingerprint``, and are kept at the ``path``, or in memory only.
    """

    path: Path | None
    fingerprint: str
    found: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, directory: Path | None, fingerprint: str) -> Trials:
        """Open a working directory, or make it."""
        if directory is None:
            return cls(None, fingerprint)
        path = directory / TRIALS
        if path.is_file():
            content = read_json(path)
            if content["fingerprint"] != fingerprint:
                raise InputError(
                    f"{directory} holds a removal of blocks over another model or text",
                    next_step="give another --work-dir, or delete it",
                )
            return cls(path, fingerprint, content["perplexities"])
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise InputError(
                f"{directory} is not empty", allowed="a directory that is new or empty",
                next_step="give another --work-dir",
            )  # fmt: skip
        directory.mkdir(parents=True, exist_ok=True)
        trials = cls(path, fingerprint)
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
            write_json(self.path, {"fingerprint": self.fingerprint, "perplexities": self.found})
