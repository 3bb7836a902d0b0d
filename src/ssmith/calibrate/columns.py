"""What new rows of B can still give a layer whose columns are to go."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float64
from torch import Tensor
from torch.nn import functional

from ssmith.core.selective import Statistics
from ssmith.ops.precision import widened
from ssmith.ops.selective_scan import ScanInputs
from ssmith.ops.selective_scan.chunked import CHUNK, chunk_states
from ssmith.ops.selective_scan.reference import step_sizes


@torch.no_grad()
def input_products(
    scan: ScanInputs,
    keep: Bool[Tensor, "n"],
    mixing: Float64[Tensor, "k n"],
    out_energy: Float64[Tensor, "e"],
) -> Statistics:
    """Return the Gram of what every B would add to the output through every kept column.

    A kept state k that takes in ``B_k + Σ_j Q_kj B_j`` becomes ``h_k + Σ_j Q_kj h_kj``, h_kj being
    the state that decays as k does and takes in B_j. The output is linear in Q: its features are
    ``C′_k h_kj`` with the refitted read-outs C′, weighted as the output is.

    ``mixing`` is R in ``C′_k = C_k + Σ_j R_kj C_j``, ``out_energy`` ‖W_out[:, e]‖² of each channel.
    Found are ``"gram"`` (k·n, k·n), ``"right"`` (k·n,), its products with what the layer's output
    lacks, and ``"energy"`` of what it lacks.
    """
    wide = widened(scan)
    n, index = wide.A.shape[1], keep.nonzero().flatten().to(wide.A.device)
    C_new = wide.C[..., index] + wide.C @ mixing.to(wide.C).T
    # Every kept decay with every B: one scan of k·n states.
    A = wide.A[:, index].repeat_interleave(n, dim=1)
    B = wide.B.repeat(1, 1, len(index))
    read = C_new.repeat_interleave(n, dim=2)
    own = torch.arange(len(index), device=index.device) * n + index
    dt, weight = step_sizes(wide), _root_weights(wide, out_energy)
    h_all = wide.x.new_zeros(wide.x.shape[0], *wide.A.shape)
    h = wide.x.new_zeros(wide.x.shape[0], *A.shape)
    found = {
        "gram": A.new_zeros(A.shape[1], A.shape[1], dtype=torch.float64),
        "right": A.new_zeros(A.shape[1], dtype=torch.float64),
        "energy": A.new_zeros((), dtype=torch.float64),
    }
    for start in range(0, wide.x.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        x, step = wide.x[:, part], dt[:, part]
        _, dense = chunk_states(x, step, wide.A, wide.B[:, part], h_all)
        _, states = chunk_states(x, step, A, B[:, part], h)
        h_all, h = dense[-1].clone(), states[-1].clone()
        scale = weight[:, part].transpose(0, 1)[..., None]
        wanted = (dense * wide.C[:, part].transpose(0, 1)[:, :, None]).sum(-1, keepdim=True)
        features = states * read[:, part].transpose(0, 1)[:, :, None]
        lacking = ((wanted - features[..., own].sum(-1, keepdim=True)) * scale).flatten()
        features = (features * scale).flatten(0, 2)
        found["gram"] += features.T @ features
        found["right"] += features.T @ lacking
        found["energy"] += lacking.double().square().sum()
    return found


def _root_weights(scan: ScanInputs, out_energy: Tensor) -> Tensor:
    weight = out_energy.to(scan.x).sqrt().expand_as(scan.x)
    if scan.z is not None:
        weight = weight * functional.silu(scan.z).abs()
    return weight if scan.valid is None else weight * scan.valid[..., None]
