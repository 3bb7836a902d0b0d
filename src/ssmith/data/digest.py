"""Digests: one for a whole data set, one for each sequence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor

from ssmith.core.sequences import SPLITS, Sequences


def digest_of(splits: Mapping[str, Sequences]) -> str:
    """Return the SHA-256 over every tensor of every split, in a fixed order: 64 hex digits.

    Names, data types, shapes and all bytes count.
    """
    digest = hashlib.sha256()
    order = [name for name in SPLITS if name in splits]
    order += sorted(name for name in splits if name not in SPLITS)
    for name in order:
        part = splits[name]
        for key, tensor in (("x", part.x), ("lengths", part.lengths), ("y", part.y)):
            header = f"{name}.{key}:{tensor.dtype}:{tuple(tensor.shape)};"
            digest.update(header.encode())
            digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def sequence_keys(part: Sequences) -> list[bytes]:
    """Return one digest per sequence, over its valid steps; equal keys mean equal inputs."""
    x = part.x.detach().cpu().numpy()
    return [
        hashlib.sha256(x[i, :length].tobytes()).digest()
        for i, length in enumerate(part.lengths.tolist())
    ]


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()
