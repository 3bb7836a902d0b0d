"""The descent to H2-optimal eigenvalues: impulse energies, conditions of optimality."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from helpers.models import Kind, make_layer
from ssmith.calibrate.record import respond
from ssmith.core.errors import NumericalError
from ssmith.core.layers import Modes
from ssmith.surgery.h2 import descend


def energy(first, second):
    """Energy of the difference of two layers' impulse responses."""
    slowest = max(float(item.rho[item.present].max()) for item in (first, second))
    half = math.ceil(math.log(1e-5) / math.log(slowest))
    total = 0.0
    for channel in range(3):
        u = torch.zeros(1, 2 * half + 1, 3, dtype=torch.float64)
        u[0, half, channel] = 1.0
        total += float(((respond(first, u) - respond(second, u)).detach() ** 2).sum())
    return total


SOME = (
    Kind("s5"),
    Kind("s5", bidirectional=True, discretisation="bilinear"),
    Kind("s5", conj_sym=False),
    Kind("s4d"),
    Kind("s4d_ragged", bidirectional=True),
)


@pytest.mark.parametrize("kind", SOME, ids=str)
def test_it_never_rises_and_is_the_energy_of_what_is_lost(kind):
    modes = make_layer(kind, dt_min=0.3, dt_max=0.5).modes("layer")
    keep = torch.arange(modes.count) % 3 == 0
    found, before, after = descend(modes, keep)
    assert found.present.tolist() == keep.tolist()
    assert 0 <= after <= before <= 1 + 1e-9
    assert bool((found.rho[keep] < 1).all())
    silent = dataclasses.replace(modes, C=torch.zeros_like(modes.C))
    if modes.C_back is not None:
        silent = dataclasses.replace(silent, C_back=torch.zeros_like(modes.C_back))
    # A channel that keeps no state loses all it had: that is not the descent's to lower.
    if modes.channel is None:
        share = energy(modes, found) / energy(modes, silent)
        assert share == pytest.approx(after, rel=1e-5, abs=1e-7)


def rotating(seed, count=8):
    """A one-way layer whose modes turn at different speeds, two channels wide."""
    draw = torch.Generator().manual_seed(seed)
    rho, turn = torch.rand(2, count, generator=draw, dtype=torch.float64)
    rows = torch.randn(2, count, 2, generator=draw, dtype=torch.complex128)
    return Modes(
        layer="layer",
        A_bar=torch.polar(0.5 + 0.4 * rho, 0.2 + 2.5 * turn),
        B_bar=rows[0],
        C=rows[1],
        C_back=None,
        channel=None,
        conjugate=True,
        grid=(count,),
        present=torch.ones(count, dtype=torch.bool),
    )


def test_a_minimum_meets_the_conditions_of_optimality():
    modes = rotating(0)
    found = descend(modes, torch.arange(8) < 3)[0]

    def response(layer, z):
        on = layer.present
        A, B, C = (item[on].detach().numpy() for item in (layer.A_bar, layer.B_bar, layer.C))
        direct = np.einsum("so,s,si->oi", C, 1 / (1 - A / z), B)
        mirrored = np.einsum("so,s,si->oi", C.conj(), 1 / (1 - A.conj() / z), B.conj())
        return direct + mirrored

    def lost(z):
        return response(modes, z) - response(found, z)

    for index in range(3):
        z, step = 1 / found.A_bar[index].detach().numpy(), 1e-4
        b, c = found.B_bar[index].numpy(), found.C[index].numpy()
        size = np.abs(response(modes, z)).max()
        assert np.abs(lost(z) @ b).max() < 1e-4 * size * np.abs(b).max()
        assert np.abs(c @ lost(z)).max() < 1e-4 * size * np.abs(c).max()
        slope = c @ (lost(z + step) - lost(z - step)) @ b / (2 * step)
        assert abs(slope) < 1e-3 * size * np.abs(b).max() * np.abs(c).max()


def test_nothing_kept_and_unstable_layers():
    modes = make_layer(Kind("s5")).modes("layer")
    none, _, after = descend(modes, torch.zeros(modes.count, dtype=torch.bool))
    assert not none.present.any()
    assert after == 1.0
    modes = dataclasses.replace(modes, A_bar=modes.A_bar * 1.5)
    with pytest.raises(NumericalError, match="no H2 norm"):
        descend(modes, torch.arange(modes.count) < 2)
