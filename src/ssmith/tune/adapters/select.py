"""The choice that ends the warm-up of sparse dimension tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.tune.adapters.part import TensorPart
from ssmith.tune.adapters.registry import adapters_of, check_name
from ssmith.tune.adapters.sdt import SDT, chosen, sparse_sites
from ssmith.tune.adapters.slot import give_slot, slots
from ssmith.tune.adapters.survey import Survey
from ssmith.tune.adapters.swapped import heed_
from ssmith.tune.adapters.switch import active, use_

_WARM = "sdt_warmup"


@dataclass(frozen=True, kw_only=True)
class SelectionReport:
    """What a warm-up left to be trained: numbers of A_log, and of rows of B and C, by mixer."""

    decays: dict[str, int]
    rows: dict[str, int]

    @property
    def parameters(self) -> int:
        """Numbers that are trained from now on."""
        return sum(self.decays.values()) + sum(self.rows.values())


def select_(model: nn.Module, name: str = "default") -> SelectionReport:
    """End the warm-up of an `SDT` adapter: keep what moved most, reset it, and freeze the rest.

    The trainable parameters are other ones afterwards: build the optimiser anew.
    """
    check_name(model, name)
    config = next((item for item in adapters_of(model)[name] if isinstance(item, SDT)), None)
    warm = _warm_parts(model, name)
    if config is None or not warm:
        raise InputError(
            f"adapter {name!r} is not in the warm-up of sdt", next_step="attach SDT() first"
        )
    mixers = Survey.of(model).mixers
    bases = {mixer: mixers[mixer]._parameters["A_log"].detach() for mixer in warm}
    now = {mixer: part.of(bases[mixer]).detach().to(bases[mixer]) for mixer, part in warm.items()}
    if all(torch.equal(now[mixer], base) for mixer, base in bases.items()):
        raise InputError(
            f"nothing of adapter {name!r} has moved", next_step="train it for its warm-up first"
        )
    places = {mixer: chosen(mixers[mixer], part, config) for mixer, part in warm.items()}
    return _replace(model, name, places)


def place_(model: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Give an `SDT` adapter the places that a file says were selected, if it does."""
    places = {}
    for mixer in _warm_parts(model, name):
        found = [tensors.get(f"{owner}.sdt.index") for owner in (mixer, f"{mixer}.x_proj")]
        if found[0] is not None and found[1] is not None:
            places[mixer] = (found[0], found[1])
    if places:
        _replace(model, name, places)


def _replace(
    model: nn.Module, name: str, places: Mapping[str, tuple[Tensor, Tensor]]
) -> SelectionReport:
    survey = Survey.of(model)
    was = active(model)
    for mixer, indices in places.items():
        layer = survey.mixers[mixer]
        give_slot(layer).drop(name, _WARM)
        device = layer.A_log.device
        for site in sparse_sites(mixer, layer, (indices[0].to(device), indices[1].to(device))):
            owner = survey.modules[site.owner]
            give_slot(owner).put(name, site.key, site.part)
            if site.owner != mixer:
                heed_(owner)
    use_(model, was)
    return SelectionReport(
        decays={mixer: len(pair[0]) for mixer, pair in places.items()},
        rows={mixer: len(pair[1]) for mixer, pair in places.items()},
    )


def _warm_parts(model: nn.Module, name: str) -> dict[str, TensorPart]:
    return {
        owner: part
        for owner, _, slot in slots(model)
        for key, part in slot.of(name)
        if key == _WARM and isinstance(part, TensorPart)
    }
