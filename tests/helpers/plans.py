"""Plans made by hand, past scores and budgets."""

from helpers.models import random_mask
from ssmith.core.plan import Cut, Plan
from ssmith.families import find_layers, model_digest


def plan_for(model, keep, **changes):
    """A plan that keeps the states it is told to."""
    cut = Cut(unit="state", keep=keep, method={"name": "by hand"}, budget={"sparsity": 0.5})
    return Plan(**{"cuts": (cut,), "model_digest": model_digest(model), **changes})


def random_plan(model, *, seed=0, keep=0.5):
    """A plan that keeps each state with probability ``keep``."""
    masks = {
        name: random_mask(layer.grid(), seed=seed + index, keep=keep)
        for index, (name, layer) in enumerate(find_layers(model).items())
    }
    return plan_for(model, masks)
