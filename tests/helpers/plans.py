"""Plans made by hand, past scores and budgets."""

import copy
import dataclasses

from helpers.models import random_mask
from ssmith import spine
from ssmith.core.plan import Cut, Plan
from ssmith.families import find_layers, model_digest
from ssmith.surgery import prune_, readout_values


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


def pruned(model, budgets, data=None, **settings):
    """A copy of a model that was cut by a plan made for it, with plan and receipt."""
    plan = spine.plan(model, budgets, data, **settings)
    cut = copy.deepcopy(model)
    return cut, plan, prune_(cut, plan)
