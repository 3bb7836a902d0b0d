"""What one layer is given in one model, and gives in another."""

import torch

from helpers.tapped import tapped
from ssmith.calibrate import Recording


def recorded_of(model, rows, name, *, reference, batch_size=64, ranges=None):
    """Recordings of a layer, batch by batch."""
    found = []
    for items in ranges or rows.ranges(batch_size):
        batch = rows.batch(items)
        with tapped(model) as own, tapped(reference) as other, torch.no_grad():
            rows.forward(model, batch)
            rows.forward(reference, batch)
        (u, y), (_, wanted) = own[name], other[name]
        valid = torch.ones(u.shape[:2], dtype=torch.bool) if batch.valid is None else batch.valid
        found.append(Recording(u=u, y=y, wanted=wanted, valid=valid))
    return found
