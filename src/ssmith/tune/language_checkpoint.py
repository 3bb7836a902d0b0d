"""A language model's training checkpoint as one safetensors file, with a readable curve beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from ssmith.core.errors import ArtefactError
from ssmith.core.files import finite_or_none, write_bytes, write_json


@dataclass(kw_only=True)
class Saved:
    """How far a run is.

    Args:
        losses: of each step done; 0 for those to come.
        done: steps done.
        seconds: time spent in them.
        validation: (steps done, bits per token).
    """

    losses: Float32[Tensor, "s"]
    done: int = 0
    seconds: float = 0.0
    validation: list[tuple[int, float]] = field(default_factory=list)


def averaged(losses: Sequence[float], points: int = 200) -> list[dict[str, float]]:
    """Return losses averaged over stretches of equal length.

    Args:
        losses: one per step.
        points: most stretches, ≥ 1.

    Returns:
        The last step of each stretch, counted from 1, and its mean loss.
    """
    stretch = max(1, -(-len(losses) // points))
    parts = [losses[start : start + stretch] for start in range(0, len(losses), stretch)]
    return [
        {"step": min((place + 1) * stretch, len(losses)), "loss": sum(part) / len(part)}
        for place, part in enumerate(parts)
    ]


def save_language_checkpoint(
    path: Path, model: nn.Module, optimizer: Optimizer, identity: dict[str, Any], saved: Saved
) -> None:
    """Write everything the next step depends on, atomically, and the curve so far beside it.

    Args:
        path: the file; the curve goes to the same name with the suffix ``.json``.
        model: as it is now.
        optimizer: AdamW over ``model``'s parameters.
        identity: what the run is, JSON-ready.
        saved: how far it is.
    """
    tensors = {f"model/{name}": value for name, value in _own(model).items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items()}
    tensors["losses"] = saved.losses
    facts = {
        "identity": identity,
        "done": saved.done,
        "seconds": saved.seconds,
        "validation": saved.validation,
    }
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_bytes(path, save(plain, metadata={"facts": json.dumps(facts, sort_keys=True)}))
    curve = {
        "steps_done": saved.done,
        "seconds": saved.seconds,
        "train": averaged(saved.losses[: saved.done].tolist()),
        "validation": [
            {"step": step, "bits_per_token": finite_or_none(bits)}
            for step, bits in saved.validation
        ],
    }
    write_json(path.with_suffix(".json"), curve)


def load_language_checkpoint(
    path: Path, model: nn.Module, optimizer: Optimizer, identity: dict[str, Any]
) -> Saved:
    """Restore a model and its optimiser in place.

    Args:
        path: the file.
        model: changed only if the checkpoint is its own.
        optimizer: AdamW over ``model``'s parameters.
        identity: what the checkpoint must say the run is.

    Returns:
        How far the run is.

    Raises:
        ArtefactError: if the file is not a checkpoint of this model and this run.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            facts: dict[str, Any] = json.loads((stream.metadata() or {})["facts"])
            tensors = {name: stream.get_tensor(name) for name in stream.offset_keys()}
        saved = Saved(
            losses=tensors.pop("losses"),
            done=facts["done"],
            seconds=facts["seconds"],
            validation=[(int(step), float(bits)) for step, bits in facts["validation"]],
        )
        found = facts["identity"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"{path} is not a checkpoint ({error})", next_step="delete it to start again"
        ) from error
    if found != json.loads(json.dumps(identity)):
        raise ArtefactError(
            f"{path} belongs to a run with other settings or data",
            next_step="delete it to start again",
        )
    weights = {
        name.removeprefix("model/"): value
        for name, value in tensors.items()
        if name.startswith("model/")
    }
    expected = {name: value.shape for name, value in _own(model).items()}
    if {name: value.shape for name, value in weights.items()} != expected:
        raise ArtefactError(
            f"{path} is not a checkpoint of this model", next_step="delete it to start again"
        )
    with torch.no_grad():
        for name, value in _own(model).items():
            value.copy_(weights[name])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        group, _, rest = key.partition("/")
        if group == "optimizer":
            index, _, name = rest.partition("/")
            state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return saved


def _own(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers, tied ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
