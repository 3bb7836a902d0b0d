"""The sites of a network, as a pass sees them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import nn

from ssmith.core.errors import UnsupportedError
from ssmith.core.layers import Modes
from ssmith.families import LTILayer, ssm_sites
from ssmith.families.hf.engine import engine
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.mamba2.grouped import GroupedLayer
from ssmith.families.output import OutputMap
from ssmith.families.registry import family_of, mixers
from ssmith.families.routed import ExpertLayer


@dataclass(frozen=True)
class LTIView:
    """An S5 or S4D layer in its network."""

    name: str
    layer: LTILayer

    def modes(self) -> Modes:
        """Return the layer as modes in float64."""
        return self.layer.modes(self.name)


View = LTIView | SelectiveLayer | GroupedLayer | ExpertLayer | OutputMap


def measurable(model: nn.Module) -> dict[str, nn.Module]:
    """Return the sites of a network whose inside calibration knows."""
    sites = ssm_sites(model)
    found = {name: site.module for name, site in sites.items() if site.view() is not None}
    if not found:
        name, site = next(iter(sites.items()))
        raise UnsupportedError(
            f"{name} is of the family {site.family.name}, whose inside calibration does not know",
            allowed="S5, S4D, Mamba and Mamba-2 layers",
            next_step="choose a method that needs no data",
        )  # fmt: skip
    return found


def view_of(name: str, module: nn.Module) -> View:
    """Return a site as stages see it."""
    if isinstance(module, nn.Linear):
        return OutputMap(name, module)
    family = family_of(module)
    view = None if family is None else family.view(name, module)
    if view is None:
        raise NotImplementedError(f"{name} has no view")
    return LTIView(name, view) if isinstance(view, LTILayer) else view


def engaged(model: nn.Module) -> AbstractContextManager[Any]:
    """Run a network's mixers on our scans inside the block, where it has any that they know."""
    return engine(model) if mixers(model)[0] else nullcontext()
