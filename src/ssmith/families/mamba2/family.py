"""Mamba-2's mixers, transformers' and mamba_ssm's, and those of hybrids that share them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ssmith.core.errors import UnsupportedError
from ssmith.core.layers import STATE
from ssmith.core.unit import Coupling, Mode
from ssmith.families.mamba2.forward import mamba2_forward
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.families.mamba2.units import MIXERS, config, layout_of, tables
from ssmith.families.parts.hooks import MAPS, PER_STATE
from ssmith.families.parts.stock import Engine, is_stock, kind_of
from ssmith.families.tabled import TableFamily
from ssmith.units import unit_named

PROJECT = "project"
"""What a cut state does whose group keeps fewer states in a basis of their own."""


@dataclass(frozen=True, kw_only=True)
class Mamba2Family(TableFamily):
    """Mixers whose states are those of groups of heads."""

    def cut_(
        self,
        module: Any,
        coupling: Coupling,
        keep: Bool[Tensor, "..."],
        mode: Mode,
        semantics: str | None = None,
    ) -> None:
        """Cut units; a group whose states are projected begins with those that ``keep`` names."""
        if coupling.unit == STATE and semantics is not None:
            unit_named(STATE).check_semantics(semantics)
        projects = coupling.unit == STATE and semantics == PROJECT
        if projects and mode != "shrink":
            raise UnsupportedError(
                "projected states cannot be masked: none of the old ones is left",
                allowed="mode='shrink'",
            )
        if projects and module._buffers.get(MAPS[0]) is None:
            _project_(module, keep)
        else:
            super().cut_(module, coupling, keep, mode)
        if coupling.unit == STATE and mode == "shrink":
            _narrow_(module, keep)

    def view(self, name: str, module: Any) -> GroupedLayer | None:
        """Return a mixer as criteria see it, if it is one that the engine runs."""
        known = is_stock(module) and kind_of(module) in MIXERS
        return GroupedLayer(name, module) if known else None


def _project_(module: Any, keep: Bool[Tensor, "g n"]) -> None:
    """Let B and C pass maps that select the kept states."""
    like: Tensor = module.in_proj.weight
    chosen = torch.eye(keep.shape[1]).expand(len(keep), -1, -1)[keep].to(like)
    for name in MAPS:
        module.register_buffer(name, chosen.clone())


def _narrow_(module: nn.Module, keep: Bool[Tensor, "g n"]) -> None:
    """Leave of the tensors that have a number for each state of each head those that stay."""
    for name in PER_STATE:
        old = getattr(module, name, None)
        if isinstance(old, Tensor):
            by_group = old.detach().unflatten(0, (len(keep), -1)).movedim(-1, 1)
            value = by_group[keep].unflatten(0, (len(keep), -1)).movedim(1, -1).flatten(0, 1)
            setattr(module, name, value.contiguous())


MAMBA2 = Mamba2Family(
    name="mamba2",
    classes=MIXERS,
    tables=tables,
    config=config,
    like=lambda module: layout_of(module) is not None,
    engine=Engine(
        name="mamba2",
        forward=mamba2_forward,
        scan="ssd",
        ops=("causal_conv", "ssd"),
        mixers=MIXERS,
    ),
)
