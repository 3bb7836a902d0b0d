"""What ends a warm-up: other parts take the places of those that were warmed up."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ssmith.core.errors import InputError
from ssmith.tune.adapters.method import WarmedMethod
from ssmith.tune.adapters.part import Placement, TensorPart
from ssmith.tune.adapters.registry import adapters_of, check_name
from ssmith.tune.adapters.slot import give_slot, slots
from ssmith.tune.adapters.survey import Survey
from ssmith.tune.adapters.swapped import heed_
from ssmith.tune.adapters.switch import active, use_


def warming(model: nn.Module, name: str = "default") -> list[WarmedMethod]:
    """Return the methods of an adapter that are in their warm-up."""
    return [method for method, _ in _warm(model, name)]


def select_(model: nn.Module, name: str = "default") -> dict[str, int]:
    """End the warm-up of an adapter, of `SDT` or `Core`: keep what it found, and reset the rest.

    The trainable parameters are other ones afterwards: build the optimiser anew.

    Args:
        model: with the adapter attached and trained for its warm-up.
        name: of the adapter.

    Returns:
        How many numbers are trained from now on, by the module that carries them.

    Raises:
        InputError: if the adapter is in no warm-up, or nothing moved in it.
    """
    check_name(model, name)
    found = _warm(model, name)
    if not found:
        raise InputError(
            f"adapter {name!r} is in no warm-up", next_step="attach SDT() or Core() first"
        )
    survey = Survey.of(model)
    for method, warm in found:
        _replace(model, name, method, method.settled(survey, warm))
    return {
        owner: sum(value.numel() for _, part in slot.of(name) for value in part.parameters())
        for owner, _, slot in slots(model)
        if any(slot.of(name))
    }


def place_(model: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    """End an adapter's warm-up as a file says it ended, if it does."""
    survey = Survey.of(model)
    for method, warm in _warm(model, name):
        sites = method.placed(survey, warm, tensors)
        if sites:
            _replace(model, name, method, sites)


def _replace(model: nn.Module, name: str, method: WarmedMethod, sites: list[Placement]) -> None:
    modules, was = dict(model.named_modules()), active(model)
    for _, _, slot in list(slots(model)):
        if any(key == method.warm_key for key, _ in slot.of(name)):
            slot.drop(name, method.warm_key)
    for site in sites:
        owner = modules[site.owner]
        give_slot(owner).put(name, site.key, site.part)
        # A mixer runs on the engine, which heeds its slot by itself.
        if isinstance(owner, nn.Linear):
            heed_(owner)
    use_(model, was)


def _warm(model: nn.Module, name: str) -> list[tuple[WarmedMethod, dict[str, TensorPart]]]:
    """Return the methods that are in their warm-up, each with its parts by their modules."""
    found = []
    for method in adapters_of(model)[name]:
        if isinstance(method, WarmedMethod):
            parts = {
                owner: part
                for owner, _, slot in slots(model)
                for key, part in slot.of(name)
                if key == method.warm_key and isinstance(part, TensorPart)
            }
            found += [(method, parts)] if parts else []
    return found
