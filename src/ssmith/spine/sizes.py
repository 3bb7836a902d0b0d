"""How many numbers the stages of a pass sum, for the memory a preflight prints."""

from __future__ import annotations

from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.mamba.units import PROJECTIONS
from ssmith.spine.choice import Choice


def summed_numbers(choice: Choice, layer: SelectiveLayer) -> int:
    """Return how many numbers the largest stage of one layer sums."""
    e, n = layer.e, layer.n
    found = [e * n * n]
    if choice.state is not None and choice.state.rows != "none":
        found.append(n**4)
    if choice.terms:
        found.append(e * (n + 2) ** 2)
    if choice.weight is not None:
        wanted = [_square(layer, name) for name in PROJECTIONS]
        together = choice.weight.refresh == "block" or choice.weight.scope in ("cost", "measured")
        found.append(sum(wanted) if together else max(wanted))
    return max(found)


def _square(layer: SelectiveLayer, name: str) -> int:
    """Return the size of a projection's second moments."""
    inputs: int = layer.part(name).weight.shape[-1]
    return layer.e * inputs**2 if name == "conv1d" else inputs**2
