"""A training checkpoint as one safetensors file: weights, best weights, AdamW's moments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from ssmith.core.errors import ArtefactError
from ssmith.core.files import write_bytes


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    best: dict[str, Tensor],
    facts: dict[str, Any],
) -> None:
    """Write everything the next epoch depends on, atomically.

    Args:
        path: the file.
        model: the model as it is now.
        optimizer: AdamW over ``model``'s parameters.
        best: the best weights so far.
        facts: JSON-ready: the run's ``identity`` and its ``history``.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best/{name}": value for name, value in best.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in values.items()}
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_bytes(path, save(plain, metadata={"facts": json.dumps(facts, sort_keys=True)}))


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: Optimizer, identity: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Restore a model and its optimiser in place.

    Args:
        path: the file.
        model: changed only if the checkpoint is its own.
        optimizer: AdamW over ``model``'s parameters.
        identity: what the facts must say the run is.

    Returns:
        The best weights and the facts.

    Raises:
        ArtefactError: if the file is not a checkpoint of this model and this run.
    """
    groups, facts = _read(path)
    if facts["identity"] != identity:
        raise ArtefactError(
            f"{path} belongs to a run with other settings or data",
            next_step="delete it to start again",
        )
    expected = {name: value.shape for name, value in model.state_dict().items()}
    for group in ("model", "best"):
        if {name: value.shape for name, value in groups[group].items()} != expected:
            raise ArtefactError(
                f"{path} is not a checkpoint of this model", next_step="delete it to start again"
            )
    model.load_state_dict(groups["model"])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in groups["optimizer"].items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    return groups["best"], facts


def _read(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
    try:
        with safe_open(path, framework="pt") as stream:
            facts: dict[str, Any] = json.loads((stream.metadata() or {})["facts"])
            for key in stream.keys():  # noqa: SIM118 - safe_open is not a mapping
                group, _, name = key.partition("/")
                groups[group][name] = stream.get_tensor(key)
        return groups, {"identity": facts["identity"], "history": facts["history"]}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtefactError(
            f"{path} is not a checkpoint ({error})", next_step="delete it to start again"
        ) from error
