"""What an adapter trains, in groups: each with its optimiser and its learning rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from ssmith.core.errors import InputError
from ssmith.core.sections import Rate
from ssmith.tune import adapters
from ssmith.tune.training import RateGroup, TrainingConfig, helped_by_muon, starting_rate

HEADS = ("score", "encoder", "head")
"""Children of a model that answer for a whole sequence."""


def rate_groups(
    model: nn.Module,
    name: str,
    training: TrainingConfig,
    published: str | None = None,
    *,
    steps: int,
    share: float = 1.0,
) -> tuple[list[RateGroup], dict[str, Rate]]:
    """Return what an adapter trains in groups, each with its optimiser and learning rate.

    A group that Muon steps is split: what is no matrix in it goes to AdamW, as ``GROUP-vectors``.

    With no rate given, the one ``published`` for a data set is taken, or the measured one for the
    run's ``steps``, and a ``share`` of it. The rates tell value, source and optimiser.
    """
    named: dict[str, dict[str, nn.Parameter]] = {}
    for group, parameters in adapters.groups(model, name).items():
        for parameter, value in parameters.items():
            inside = "head" if parameter.split(".")[0] in HEADS else group
            named.setdefault(inside, {})[parameter] = value
    split = _by_optimizer(named, adapters.matrices(model, name), training, published)
    _check_known(training.rates, {key: None for key, _, _, _ in split})
    rates: dict[str, Rate] = {}
    groups = []
    for key, group, optimizer, parameters in split:
        given = training.rates.get(key, training.rates.get(group, training.rate))
        if given is not None:
            rate = Rate(value=given, source="given", optimizer=optimizer)
        else:
            rate = starting_rate(group, published, optimizer=optimizer, steps=steps)
            if share < 1:
                lower = f"{rate.source}; 1/{1 / share:g} of it, for higher ones did not help"
                rate = dataclasses.replace(rate, value=share * rate.value, source=lower)
        rates[key] = rate
        groups.append(
            RateGroup(name=key, parameters=parameters, rate=rate.value, optimizer=optimizer)
        )
    return groups, rates


def _by_optimizer(
    named: Mapping[str, dict[str, nn.Parameter]],
    matrices: set[str],
    training: TrainingConfig,
    published: str | None,
) -> list[tuple[str, str, str, dict[str, nn.Parameter]]]:
    """Return name, method, optimiser and parameters of every group."""
    found: list[tuple[str, str, str, dict[str, nn.Parameter]]] = []
    for group, parameters in named.items():
        wanted = training.optimizer == "muon" or (
            training.optimizer == "auto" and published is None and helped_by_muon(group)
        )
        inside = {key: value for key, value in parameters.items() if wanted and key in matrices}
        rest = {key: value for key, value in parameters.items() if key not in inside}
        if inside:
            found.append((group, group, "muon", inside))
        if rest:
            found.append((f"{group}-vectors" if inside else group, group, "adamw", rest))
    if training.optimizer == "muon" and all(kind == "adamw" for _, _, kind, _ in found):
        raise InputError(
            f"optimizer 'muon' for {', '.join(named)}, which train no matrix",
            allowed="lora, core, state-offset-h and other methods with factors",
            next_step="leave optimizer out, or choose adamw",
        )
    return found


def _check_known(given: Mapping[str, float], named: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(named))
    if unknown:
        raise InputError(f"rates names group {unknown[0]!r}", allowed=", ".join(named))
