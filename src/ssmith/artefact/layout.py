"""The files of a saved model, and what stands in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ssmith.core.directories import MANIFEST, write_manifest
from ssmith.core.errors import InputError
from ssmith.core.files import write_bytes

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CARD = "README.md"

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


def seal(scratch: Path, extra_files: Mapping[str, str | bytes]) -> None:
    """Write further files, and the manifest of all that is there."""
    taken = {item.name for item in scratch.iterdir()} | {MANIFEST}
    for name, content in extra_files.items():
        if not name or name in taken or Path(name).name != name:
            raise InputError(
                f"further file {name!r}", allowed=f"a plain name, none of {sorted(taken)}"
            )
        write_bytes(scratch / name, content.encode() if isinstance(content, str) else content)
    write_manifest(scratch)
