"""Optimisers by kind of tensor: Muon for matrices, AdamW for the rest, behind one face."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ssmith.core.errors import ArtefactError, UnsupportedError

OPTIMIZERS = ("auto", "adamw", "muon")
_MUON = "muon"
# Adapters train for few steps; a longer memory of gradients was measured to cost them.
_MOMENTUM = 0.9


class Optimizers:
    """One AdamW and, where a group asks for it, one Muon that step together.

    Args:
        groups: of parameters: ``params``, peak rate ``lr``, ``weight_decay``, and ``optimizer``,
            ``"adamw"`` where it is missing. Groups of Muon hold matrices alone.
        betas: AdamW's.

    Raises:
        UnsupportedError: if a group asks for Muon and this torch has none.

    Source: Muon (K. Jordan, 2024; arXiv 2502.16982 for the scale): the step is the orthogonalised
        momentum times 0.2·√max(rows, columns), which has AdamW's size for a square matrix.
    Differs: a matrix with more rows than columns steps √(rows/columns) further, so that the
        outputs, not the entries, move alike: B of LoRA starts at zero and has few columns.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]], betas: tuple[float, float]) -> None:
        plain: list[dict[str, Any]] = []
        matrices: list[dict[str, Any]] = []
        for group in groups:
            given = {name: value for name, value in group.items() if name != "optimizer"}
            if group.get("optimizer") != _MUON:
                plain.append(given)
            else:
                matrices += _by_shape(given)
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if plain:
            self.parts["adamw"] = torch.optim.AdamW(plain, betas=betas)
        if matrices:
            self.parts[_MUON] = _muon()(
                matrices, momentum=_MOMENTUM, adjust_lr_fn="match_rms_adamw"
            )
        self.peaks = [float(group["lr"]) for group in self.param_groups]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parts."""
        return [group for part in self.parts.values() for group in part.param_groups]

    def parameters(self) -> Iterator[Tensor]:
        """Yield every parameter."""
        for group in self.param_groups:
            yield from group["params"]

    def set_rates(self, share: float) -> None:
        """Set every group's rate to a share of its peak."""
        for group, peak in zip(self.param_groups, self.peaks, strict=True):
            group["lr"] = peak * share

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Take one step."""
        for part in self.parts.values():
            part.step()

    def moments(self) -> dict[str, Tensor]:
        """Return the optimisers' tensors, by ``optimizer/index/name``."""
        return {
            f"{kind}/{index}/{name}": value
            for kind, part in self.parts.items()
            for index, values in part.state_dict()["state"].items()
            for name, value in values.items()
        }

    def set_moments(self, moments: Mapping[str, Tensor]) -> None:
        """Take over the tensors that `moments` returned of another of the same parameters."""
        states: dict[str, dict[int, dict[str, Tensor]]] = {kind: {} for kind in self.parts}
        for key, value in moments.items():
            kind, _, place = key.partition("/")
            index, _, name = place.partition("/")
            known = index.isdecimal() and kind in states
            weight = self._parameter(kind, int(index)) if known else None
            if weight is None or (value.ndim and value.shape != weight.shape):
                raise ArtefactError(
                    f"a checkpoint holds {key!r} of shape {tuple(value.shape)}",
                    allowed="moments of this run's parameters",
                    next_step="delete the checkpoint to start again",
                )
            states[kind].setdefault(int(index), {})[name] = value
        for kind, part in self.parts.items():
            groups = part.state_dict()["param_groups"]
            part.load_state_dict({"state": states[kind], "param_groups": groups})

    def _parameter(self, kind: str, index: int) -> Tensor | None:
        """Return a parameter by its number in an optimiser's own order."""
        every = (p for group in self.parts[kind].param_groups for p in group["params"])
        return next(islice(every, index, None), None)


def _by_shape(group: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Split a group by how much taller than wide its matrices are."""
    split: dict[float, list[Tensor]] = {}
    for value in group["params"]:
        split.setdefault(max(1.0, value.shape[0] / value.shape[1]) ** 0.5, []).append(value)
    return [{**group, "params": values, "lr": group["lr"] * by} for by, values in split.items()]


def _muon() -> Any:
    found = getattr(torch.optim, "Muon", None)
    if found is None:
        raise UnsupportedError(
            f"optimizer 'muon' with torch {torch.__version__}",
            allowed="torch 2.9 or later",
            next_step="update torch, or choose optimizer 'adamw'",
        )
    return found
