"""What the scans are measured against: the forms other packages use, and the best plain ones."""

from __future__ import annotations

import torch
from mambapy import pscan
from torch import Tensor
from torch.nn import functional
from transformers.models.mamba.modeling_mamba import mamba_selective_scan

from ssmith.ops.selective_scan.inputs import ScanInputs

UNROLLED = 16

# transformers falls back to its loop in silence where mambapy is missing; importing it does not.
assert pscan


def transformers_scan(inputs: ScanInputs, *, mambapy: bool) -> Tensor:
    """transformers' own loop, or mambapy's parallel scan behind the same door."""
    return mamba_selective_scan(
        inputs.x.mT, inputs.dt.mT, inputs.A, inputs.B.mT, inputs.C.mT, D=inputs.D,
        z=None if inputs.z is None else inputs.z.mT, delta_bias=inputs.dt_bias,
        delta_softplus=inputs.dt_softplus, use_mambapy=mambapy,
    )  # fmt: skip


def unrolled_chunk(  # noqa: PLR0917
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor
) -> tuple[Tensor, Tensor]:
    """Sixteen steps written out, for a compiler to fuse."""
    outputs = []
    for t in range(x.shape[1]):
        h = torch.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * x[:, t])[..., None] * B[:, t, None]
        outputs.append((h * C[:, t, None]).sum(-1))
    return torch.stack(outputs, 1), h


def compiled_scan(chunk, inputs: ScanInputs) -> Tensor:
    """The best compiled form: a compiled chunk of unrolled steps inside a Python loop."""
    dt = functional.softplus(inputs.dt + inputs.dt_bias)
    h = inputs.x.new_zeros(inputs.x.shape[0], *inputs.A.shape)
    pieces = []
    for start in range(0, inputs.x.shape[1], UNROLLED):
        part = slice(start, start + UNROLLED)
        y, h = chunk(
            inputs.x[:, part], dt[:, part], inputs.A, inputs.B[:, part], inputs.C[:, part], h
        )
        pieces.append(y)
    return (torch.cat(pieces, 1) + inputs.D * inputs.x) * functional.silu(inputs.z)


def complex_layer(run, D: Tensor, u: Tensor) -> Tensor:
    """An S5 layer as its published torch ports write it: complex products, textbook scan."""
    B_bar, C = complex_weights(run)
    states, _ = kogge_stone(run.A_bar, u.to(B_bar.dtype) @ B_bar.mT)
    return (states @ C.mT).real + D * u


def complex_weights(run) -> tuple[Tensor, Tensor]:
    """The input and read-out matrices of a layer from the real ones our products use."""
    B_bar = torch.view_as_complex(run.B_bar.view(-1, 2, run.B_bar.shape[1]).mT.contiguous())
    parts = run.C.view(run.C.shape[0], -1, 2)
    return B_bar, torch.complex(parts[..., 0], -parts[..., 1])


def kogge_stone(
    A_bar: Tensor, Bu: Tensor, x0=None, *, reverse: bool = False, overwrite: bool = False
):
    """The textbook parallel scan of a diagonal LTI layer: log₂ l passes over all states."""
    del overwrite
    states = Bu.flip(1) if reverse else Bu
    if x0 is not None:
        states = torch.cat([states[:, :1] + A_bar * x0[:, None], states[:, 1:]], dim=1)
    power, step = A_bar, 1
    while step < states.shape[1]:
        states = torch.cat([states[:, :step], states[:, step:] + power * states[:, :-step]], dim=1)
        power, step = power * power, 2 * step
    return (states.flip(1), states[:, -1]) if reverse else (states, states[:, -1])
