"""How many numbers the stages of a walk sum, for the memory a preflight prints."""

from __future__ import annotations

from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.mamba.units import PROJECTIONS
from ssmith.jobs.selective.config import SelectiveConfig
from ssmith.jobs.selective.stages import can_refit


def summed_numbers(config: SelectiveConfig, layer: SelectiveLayer) -> int:
    """Return how many numbers the largest stage of one layer sums.

    Args:
        config: what is removed.
        layer: a layer of the model.

    Returns:
        Numbers, an upper bound where stages differ.
    """
    e, n = layer.e, layer.n
    found = [e * n * n]
    resolved = config.resolved(refits=can_refit(layer))
    if config.columns is not None and resolved.compensate != "none":
        found.append(n**4)
    if config.terms:
        found.append(e * (n + 2) ** 2)
    if config.projections is not None:
        squares = {name: _square(layer, name) for name in PROJECTIONS}
        wanted = [squares[name] for name in config.projections.targets]
        together = config.projections.refresh == "block" or config.projections.allocation in (
            "local", "measured",
        )  # fmt: skip
        found.append(sum(wanted) if together else max(wanted))
        if config.projections.activations == "released":
            found[-1] += e * e
    return max(found)


def _square(layer: SelectiveLayer, name: str) -> int:
    """Return the size of a projection's second moments."""
    weight = getattr(layer.mixer, name).weight
    inputs: int = weight.shape[-1]
    return layer.e * inputs**2 if name == "conv1d" else inputs**2
