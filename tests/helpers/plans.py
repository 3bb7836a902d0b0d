"""Plans made by hand, past scores and budgets."""

from helpers.models import random_mask
from ssmith.core.plan import Plan
from ssmith.families import find_layers, model_digest


def plan_for(model, keep, **changes):
    """A plan that keeps what it is told to."""
    given = {
        "unit": "states",
        "keep": keep,
        "criterion": {"name": "by hand"},
        "budget": {"states": 0.5},
        "model_digest": model_digest(model),
    }
    return Plan(**{**given, **changes})


def random_plan(model, *, seed=0, keep=0.5):
    """A plan that keeps each state with probability ``keep``."""
    masks = {
        name: random_mask(layer.grid(), seed=seed + index, keep=keep)
        for index, (name, layer) in enumerate(find_layers(model).items())
    }
    return plan_for(model, masks)
