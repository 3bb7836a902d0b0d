"""The files of a saved model, and what stands in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ssmith.core.files import sha256_file

FORMAT = "ssmith-model"
FORMAT_VERSION = 1

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
MANIFEST = "manifest.json"

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def manifest_of(directory: Path) -> dict[str, Any]:
    """Return the manifest: size and SHA-256 of every file but itself."""
    files = sorted(
        item for item in directory.rglob("*") if item.is_file() and item.name != MANIFEST
    )
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "files": {
            item.relative_to(directory).as_posix(): {
                "bytes": item.stat().st_size,
                "sha256": sha256_file(item),
            }
            for item in files
        },
    }
