"""Sequences for tiny models."""

import torch

from helpers.models import make_input
from ssmith.core.sequences import Sequences


def make_part(model, lengths, *, seed=1):
    """Random sequences of given lengths; the model's own type is left to whoever runs it."""
    x = make_input(model, batch=len(lengths), length=max(lengths), seed=seed)
    x = x.float() if x.is_floating_point() else x
    y = torch.zeros(len(lengths), dtype=torch.int64)
    return Sequences(x=x, lengths=torch.tensor(lengths), y=y)
