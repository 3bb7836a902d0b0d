"""The state of a stream on disk: one safetensors file, whole or absent, sealed by its digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ssmith.artefact.weights import complex_names, packed
from ssmith.core.errors import ArtefactError
from ssmith.core.files import write_bytes
from ssmith.core.settings import to_mapping, typed
from ssmith.core.trees import digest_of

_FACTS = "facts"
_AGAIN = "begin a new stream, or restore the file from a copy"


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """What a state is of, and what it must still be.

    Args:
        format: of the file.
        model: digest of the model's tensors.
        sources: whose rows they are.
        missing: what was done about gaps.
        window: steps after which a source began anew; None for never.
        pairs: tensors of complex numbers that are stored as pairs.
        seal: digest of all tensors and of everything here.
    """

    format: Literal["ssmith-stream-1"] = "ssmith-stream-1"
    model: str
    sources: tuple[str, ...]
    missing: str
    window: int | None
    pairs: tuple[str, ...] = ()
    seal: str = ""


@dataclass(frozen=True, kw_only=True)
class SavedStream:
    """The state of all sources: a row of every tensor for each."""

    model: str
    sources: tuple[str, ...]
    missing: str
    window: int | None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def write_stream(path: Path, saved: SavedStream) -> None:
    """Write a state atomically."""
    facts = StreamFacts(
        model=saved.model, sources=saved.sources, missing=saved.missing, window=saved.window,
        pairs=complex_names(saved.tensors),
    )  # fmt: skip
    content = to_mapping(facts) | {"seal": _seal(facts, saved.tensors)}
    write_bytes(path, packed(saved.tensors, {_FACTS: json.dumps(content, sort_keys=True)}))


def read_stream(
    path: Path,
    like: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    *,
    model: str,
    missing: str,
    window: int | None,
) -> SavedStream:
    """Read a state for a model whose rows have these types and shapes; nothing is unpickled."""
    try:
        with safe_open(path, framework="pt") as file:
            said: Any = json.loads((file.metadata() or {})[_FACTS])
            facts = typed(StreamFacts, said, where=str(path), next_step=_AGAIN)
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.offset_keys()}
            _check(
                path, facts, shapes, like, {"model": model, "missing": missing, "window": window}
            )
            tensors = {name: file.get_tensor(name) for name in shapes}
        tensors |= {name: torch.view_as_complex(tensors[name]) for name in facts.pairs}
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, ArtefactError):
            raise
        raise ArtefactError(
            f"{path} is no state of a stream ({error})", next_step=_AGAIN
        ) from error
    kinds = {name: value.dtype for name, value in tensors.items()}
    if kinds != {name: kind for name, (kind, _) in like.items()}:
        raise ArtefactError(f"{path} holds numbers of other types", next_step=_AGAIN)
    if _seal(facts, tensors) != facts.seal:
        raise ArtefactError(f"{path} was changed after it was written", next_step=_AGAIN)
    return SavedStream(
        model=facts.model, sources=facts.sources, missing=facts.missing, window=facts.window,
        tensors=tensors,
    )  # fmt: skip


def _check(
    path: Path,
    facts: StreamFacts,
    shapes: Mapping[str, tuple[int, ...]],
    like: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    wanted: Mapping[str, Any],
) -> None:
    """Refuse what does not belong to a model and its settings, before any tensor is read."""
    for name, value in wanted.items():
        if getattr(facts, name) != value:
            raise ArtefactError(
                f"{path} is of {name} {getattr(facts, name)!r:.20}", allowed=f"{value!r:.20}",
                next_step="begin a new stream, or serve the model and settings it was saved with",
            )  # fmt: skip
    count = len(facts.sources)
    rows = {
        name: (count, *shape, *((2,) if name in facts.pairs else ()))
        for name, (_, shape) in like.items()
    }
    if len(set(facts.sources)) != count or not set(facts.pairs) <= set(shapes):
        raise ArtefactError(f"{path} names a source or a tensor twice", next_step=_AGAIN)
    if shapes != rows:
        raise ArtefactError(f"{path} holds states of other shapes", next_step=_AGAIN)


def _seal(facts: StreamFacts, tensors: Mapping[str, Tensor]) -> str:
    plain = to_mapping(facts) | {"seal": ""}
    ordered = {name: tensors[name] for name in sorted(tensors)}
    return digest_of({"facts": json.dumps(plain, sort_keys=True), "tensors": ordered})
