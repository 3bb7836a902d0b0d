"""What a cut layer's output lacks, and its products with what can be given back for free."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ssmith.core.errors import InputError
from ssmith.core.selective import Statistics
from ssmith.ops.precision import widened
from ssmith.ops.selective_scan import ScanInputs, selective_scan


@torch.no_grad()
def removed_contribution(cut: ScanInputs, reference: ScanInputs) -> Statistics:
    """Return, per channel, the Gram of ``(1, x, C_1 … C_n)`` and its products with what is lacking.

    Both scans run on the same input; what is lacking is the difference of their ungated outputs.
    All sums are weighted by ``SiLU(z)²``, as the gate weighs the output; steps that are not valid
    count for nothing. Found are ``"gram"`` (e, n + 2, n + 2), ``"right"`` (e, n + 2) and
    ``"energy"`` (e,).
    """
    if cut.x.shape != reference.x.shape:
        raise InputError(
            f"scans of shapes {tuple(cut.x.shape)} and {tuple(reference.x.shape)}",
            allowed="two scans of one batch",
        )
    # Rounded to bfloat16, two outputs differ more by their rounding than by what was cut.
    wide = widened(cut)
    lacking = _ungated(widened(reference)) - _ungated(wide)
    weight = _gate(wide).flatten(0, 1)
    x, rest = wide.x.flatten(0, 1), lacking.flatten(0, 1)
    C = wide.C.flatten(0, 1)
    basis = torch.cat([torch.ones_like(C[:, :1]), C], dim=1)
    e, n = wide.A.shape
    gram = wide.A.new_zeros(e, n + 2, n + 2, dtype=torch.float64)
    # Feature 1 is x, the others are shared by all channels.
    shared = [0, *range(2, n + 2)]
    pairs = (basis[:, :, None] * basis[:, None, :]).flatten(1)
    columns = torch.tensor(shared, device=gram.device)
    gram[:, columns[:, None], columns] = (weight.T @ pairs).double().view(e, n + 1, n + 1)
    across = ((weight * x).T @ basis).double()
    gram[:, 1, columns] = across
    gram[:, columns, 1] = across
    gram[:, 1, 1] = (weight * x.square()).double().sum(0)
    right = gram.new_zeros(e, n + 2)
    right[:, columns] = ((weight * rest).T @ basis).double()
    right[:, 1] = (weight * rest * x).double().sum(0)
    energy = (weight * rest.square()).double().sum(0)
    return {"gram": gram, "right": right, "energy": energy}


def _ungated(scan: ScanInputs) -> Float[Tensor, "b l e"]:
    y, _ = selective_scan(replace(scan, z=None))
    return y


def _gate(scan: ScanInputs) -> Float[Tensor, "b l e"]:
    weight = torch.ones_like(scan.x) if scan.z is None else functional.silu(scan.z).square()
    return weight if scan.valid is None else weight * scan.valid[..., None]
