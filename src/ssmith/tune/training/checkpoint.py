"""A checkpoint of a tuning run: a directory of safetensors and JSON, whole or absent."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ssmith.core.errors import ArtefactError
from ssmith.core.files import new_directory, write_bytes, write_text

STATE = "state.safetensors"
TRAINER_STATE = "trainer_state.json"
_PREFIX = "step-"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything the next step depends on.

    Args:
        trained: the tuned tensors as they are.
        best: the tuned tensors that validated best.
        moments: AdamW's tensors, by ``index/name``.
        random: state of the random generators, one row per process.
        facts: JSON-ready: the run's ``identity``, ``history``, schedule.
    """

    trained: dict[str, Tensor]
    best: dict[str, Tensor]
    moments: dict[str, Tensor]
    random: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)


_GROUPS = ("trained", "best", "moments", "random")


def latest(place: Path) -> Path | None:
    """Return the newest whole checkpoint in a directory; None if there is none."""
    found = [item for item in place.glob(f"{_PREFIX}*") if (item / STATE).is_file()]
    return max(found, key=_step, default=None)


def write_checkpoint(place: Path, step: int, content: Checkpoint, trainer_state: str) -> Path:
    """Write a checkpoint whole, and then remove older ones.

    Args:
        place: directory of all checkpoints of the run.
        step: optimiser steps done.
        content: what it holds.
        trainer_state: the trainer's own record, JSON.

    Returns:
        The checkpoint's directory.

    Raises:
        ArtefactError: if the disk refuses.
    """
    target = place / f"{_PREFIX}{step}"
    tensors = {
        f"{group}/{name}": value.detach().cpu().contiguous()
        for group in _GROUPS
        for name, value in getattr(content, group).items()
    }
    with new_directory(target, overwrite=True, marker=STATE) as scratch:
        metadata = {"facts": json.dumps(content.facts, sort_keys=True)}
        write_bytes(scratch / STATE, save(_unshared(tensors), metadata=metadata))
        write_text(scratch / TRAINER_STATE, trainer_state)
    for old in place.glob(f"{_PREFIX}*"):
        if _step(old) < step:
            shutil.rmtree(old, ignore_errors=True)
    return target


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing is unpickled.

    Args:
        path: the checkpoint's directory.

    Returns:
        What it holds.

    Raises:
        ArtefactError: if it is none.
    """
    groups: dict[str, dict[str, Tensor]] = {name: {} for name in _GROUPS}
    try:
        with safe_open(path / STATE, framework="pt") as stream:
            facts: dict[str, Any] = json.loads((stream.metadata() or {})["facts"])
            for key in stream.keys():  # noqa: SIM118 - safe_open is not a mapping
                group, _, name = key.partition("/")
                groups[group][name] = stream.get_tensor(key)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ArtefactError(
            f"{path} is not a checkpoint ({error})", next_step="delete it to start again"
        ) from error
    return Checkpoint(**groups, facts=facts)


def _step(path: Path) -> int:
    digits = path.name.removeprefix(_PREFIX)
    return int(digits) if digits.isdigit() else -1


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with memory of their own: the best may be the present ones."""
    return {name: value.clone() for name, value in tensors.items()}
