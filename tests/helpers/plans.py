"""Plans made by hand, past scores and budgets."""

import dataclasses

from helpers.models import random_mask
from ssmith.core.plan import Cut, Plan
from ssmith.families import find_layers, model_digest
from ssmith.surgery import readout_values


def plan_for(model, keep, *, unit="state", **changes):
    """A plan of one cut that keeps what it is told to."""
    cut = Cut(unit=unit, keep=keep, method={"name": "by hand"}, budget={"sparsity": 0.5})
    return Plan(**{"cuts": (cut,), "model_digest": model_digest(model), **changes})


def random_plan(model, *, seed=0, keep=0.5):
    """A plan that keeps each state with probability ``keep``."""
    masks = {
        name: random_mask(layer.grid(), seed=seed + index, keep=keep)
        for index, (name, layer) in enumerate(find_layers(model).items())
    }
    return plan_for(model, masks)


def compensated(model, plan, found):
    """The same plan with the values that a refit, if any, gave the layers that it cuts."""
    if found is None:
        return plan
    (cut,), layers, values = plan.cuts, find_layers(model), {}
    for name, readout in found.readouts.items():
        values |= readout_values(name, layers[name], cut.keep[name], readout)
    return dataclasses.replace(plan, values=values)
