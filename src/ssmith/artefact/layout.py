"""The files of a saved model, and what stands in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssmith.core.errors import InputError
from ssmith.core.files import sha256_file, write_bytes, write_json

FORMAT = "ssmith-model"
FORMAT_VERSION = 2

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CARD = "README.md"
MANIFEST = "manifest.json"

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


def manifest_of(directory: Path) -> dict[str, Any]:
    """Return the manifest: size and SHA-256 of every file but itself."""
    files = sorted(item for item in directory.rglob("*") if item.is_file())
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "files": {
            item.relative_to(directory).as_posix(): {
                "bytes": item.stat().st_size,
                "sha256": sha256_file(item),
            }
            for item in files
            if item != directory / MANIFEST
        },
    }


def seal(scratch: Path, extra_files: Mapping[str, str | bytes]) -> None:
    """Write further files, and the manifest of all that is there."""
    taken = {item.name for item in scratch.iterdir()} | {MANIFEST}
    for name, content in extra_files.items():
        if not name or name in taken or Path(name).name != name:
            raise InputError(
                f"further file {name!r}", allowed=f"a plain name, none of {sorted(taken)}"
            )
        write_bytes(scratch / name, content.encode() if isinstance(content, str) else content)
    write_json(scratch / MANIFEST, manifest_of(scratch))
