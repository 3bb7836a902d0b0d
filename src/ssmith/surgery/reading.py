"""Refit what reads the states of a group that stay, through the convolution and its SiLU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor
from torch.nn import functional

_RIDGE, _FLOOR = 1e-3, 1e-9
_PARTS = (1.0, 0.5, 0.25, 0.1)
"""Of a step: the first is taken, if any, that helps where the step was not fitted, too."""
SWEEPS = 2


@dataclass(frozen=True, kw_only=True)
class ReadingSamples:
    """What the states of one group cost at some steps, and what their reading rows are given.

    With K what an error in reading costs the layer's output, ``own`` is K among states that stay,
    ``wanted`` their rows of K C, ``whole`` Cᵀ K C, what it would cost to read nothing; what the
    convolution is given of each row has the latest step last; on ``held`` steps, to which no row is
    fitted, the error must fall, too.
    """

    own: Float64[Tensor, "t k k"]
    wanted: Float64[Tensor, "t k"]
    whole: Float64[Tensor, "t"]
    given: Float64[Tensor, "t w n"]
    held: Bool[Tensor, "t"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the kept states of one group are read: rows as mixtures of the old ones, and the filter.

    A row is ``mixing @ old rows``; ``errors`` are the objective's before and after.
    """

    mixing: Float64[Tensor, "k n"]
    taps: Float64[Tensor, "k w"]
    bias: Float64[Tensor, "k"]
    errors: tuple[float, ...] = ()


def refit_reading(samples: ReadingSamples, start: Reading, sweeps: int = SWEEPS) -> Reading:
    """Return the reading with less error: state by state a Gauss-Newton step through the SiLU.

    The error is ``E[(C − C̃)ᵀ K (C − C̃)]``, C̃ zero where a state is gone. With a what the filter
    gives a row, ``d = SiLU′(a)``, φ what a moves by with the mixing of the row, its taps and bias,
    ``r = (K C)_k − Σ_j K_kj C̃_j`` and ``κ = K_kk``, the step is ``(E[κ d² φφᵀ] + ridge)⁻¹ E[r d
    φ]``; of it, a half, a quarter and a tenth the first is taken, if any, that lowers the error
    both where it was fitted and where it was not.
    """
    mixing, taps, bias = start.mixing.clone(), start.taps.clone(), start.bias.clone()
    read = _read(samples, start)
    errors = [_error(samples, read)]
    n, fitted = samples.given.shape[-1], (~samples.held).double()
    for _ in range(sweeps):
        for k in range(len(taps)):
            window = samples.given @ mixing[k]
            a = window @ taps[k] + bias[k]
            mixed = torch.einsum("w,twn->tn", taps[k], samples.given)
            moved = torch.cat([mixed, window, torch.ones_like(a[:, None])], dim=1)
            gate = torch.sigmoid(a)
            slope = gate * (1 + a * (1 - gate))
            residual = samples.wanted[:, k] - (samples.own[:, k] * read).sum(1)
            weight = samples.own[:, k, k]
            normal = (moved * (fitted * weight * slope.square())[:, None]).mT @ moved
            extra = _RIDGE * normal.diagonal() + _FLOOR * normal.diagonal().max()
            if not float(extra.min()) > 0:
                continue
            step = torch.linalg.solve(normal + extra.diag(), moved.mT @ (fitted * residual * slope))
            turned = samples.given @ step[:n]
            for part in _PARTS:
                tap, offset = taps[k] + part * step[n:-1], bias[k] + part * step[-1]
                new = functional.silu((window + part * turned) @ tap + offset)
                change = new - read[:, k]
                rise = weight * change.square() - 2 * residual * change
                if all(float(rise[own].sum()) < 0 for own in (~samples.held, samples.held)):
                    mixing[k] += part * step[:n]
                    taps[k], bias[k], read[:, k] = tap, offset, new
                    break
        errors.append(_error(samples, read))
    return Reading(mixing=mixing, taps=taps, bias=bias, errors=tuple(errors))


def _read(samples: ReadingSamples, reading: Reading) -> Float64[Tensor, "t k"]:
    """Return what reads the states that stay."""
    windows = torch.einsum("twn,kn->tkw", samples.given, reading.mixing)
    return functional.silu((windows * reading.taps).sum(-1) + reading.bias)


def _error(samples: ReadingSamples, read: Float64[Tensor, "t k"]) -> float:
    square = torch.einsum("tk,tkj,tj->", read, samples.own, read)
    return float(samples.whole.sum() + square - 2 * (samples.wanted * read).sum()) / len(read)
