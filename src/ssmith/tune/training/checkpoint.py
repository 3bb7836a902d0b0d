"""A training's checkpoint: one safetensors file, whole or absent, with a readable curve beside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxtyping import Float64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ssmith.core.details import ValidationLook
from ssmith.core.errors import ArtefactError, OutputExistsError
from ssmith.core.files import parse_json, write_bytes, write_json
from ssmith.core.identity import check_same_run
from ssmith.core.settings import to_mapping, typed

AGAIN = "choose another file, or delete it to start again"
_GROUPS = ("weights", "best", "moments")
_LOSSES = "losses"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Where a run was.

    Args:
        identity: what its result depends on.
        looks: so far.
        since: sum of losses since the last look, and of what they were means of.
        seconds: trained so far.
        tokens: seen so far.
    """

    identity: dict[str, Any]
    looks: tuple[ValidationLook, ...] = ()
    since: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything the next step depends on.

    ``best`` holds the tensors that validated best, empty if the last are kept; ``moments`` the
    optimisers', by ``optimizer/index/name``.
    """

    losses: Float64[Tensor, "s"]
    weights: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)
    facts: Facts


def write_checkpoint(path: Path, content: Checkpoint) -> None:
    """Write a checkpoint atomically, and the curve so far beside it.

    The curve goes to the same name with ``.curve.json`` behind it.
    """
    tensors = {
        f"{group}/{name}": value
        for group in _GROUPS
        for name, value in getattr(content, group).items()
    }
    tensors[_LOSSES] = content.losses
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    facts = to_mapping(content.facts)
    write_bytes(path, save(plain, metadata={"facts": json.dumps(facts, sort_keys=True)}))
    write_curve(path, content)


def write_curve(path: Path, content: Checkpoint) -> None:
    """Write the curve beside a checkpoint, which a killed run may not have got to."""
    curve = {
        "train": averaged(content.losses.tolist()),
        "validation": [to_mapping(look) for look in content.facts.looks],
    }
    write_json(curve_of(path), {"steps_done": len(content.losses), **curve})


def check_place(path: Path) -> None:
    """Raise `OutputExistsError` unless a checkpoint may be written, or is, at ``path``; early.

    Neither it nor the curve beside it ever replaces anybody else's.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            ours = "facts" in (stream.metadata() or {})
    except (OSError, SafetensorError):
        ours = False
    other = path if path.exists() else curve_of(path)
    if other.exists() and not ours:
        raise OutputExistsError(
            f"{other} is there already and is no checkpoint, so it is not replaced",
            allowed="a file that is free, or a checkpoint of the same training",
            next_step="choose another file, e.g. last.safetensors",
        )


def curve_of(path: Path) -> Path:
    """Return where the curve of a checkpoint lies."""
    return path.with_name(path.name + ".curve.json")


def read_checkpoint(
    path: Path, identity: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Checkpoint:
    """Read a checkpoint; nothing is unpickled."""
    groups: dict[str, dict[str, Tensor]] = {name: {} for name in _GROUPS}
    try:
        with safe_open(path, framework="pt") as stream:
            said = parse_json((stream.metadata() or {})["facts"])
            tensors = {name: stream.get_tensor(name) for name in stream.offset_keys()}
        losses = tensors.pop(_LOSSES)
        for key, value in tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = value
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is not a checkpoint ({error})", next_step=AGAIN) from error
    facts = typed(Facts, said, where=str(path), next_step=AGAIN)
    if losses.ndim != 1 or not losses.isfinite().all():
        raise ArtefactError(
            f"{path} holds losses of shape {tuple(losses.shape)}",
            allowed="one finite number for each step",
            next_step=AGAIN,
        )
    check_same_run(facts.identity, identity, what=str(path), next_step=AGAIN)
    expected = {name: value.shape for name, value in weights.items()}
    for group in ("weights", "best"):
        found = {name: value.shape for name, value in groups[group].items()}
        if found != expected and (found or group == "weights"):
            raise ArtefactError(f"{path} is not a checkpoint of this model", next_step=AGAIN)
    return Checkpoint(losses=losses, **groups, facts=facts)


def averaged(losses: Sequence[float], points: int = 200) -> list[dict[str, float]]:
    """Return losses averaged over stretches of equal length.

    Each is the last step of a stretch, counted from 1, with its mean loss.
    """
    stretch = max(1, -(-len(losses) // points))
    parts = [losses[start : start + stretch] for start in range(0, len(losses), stretch)]
    return [
        {"step": min((place + 1) * stretch, len(losses)), "loss": sum(part) / len(part)}
        for place, part in enumerate(parts)
    ]
