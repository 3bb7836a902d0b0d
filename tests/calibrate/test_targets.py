"""Refits of input rows and read-outs: least squares, on sequences and under white noise."""

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models import KINDS, Kind, make_layer, make_model, random_mask
from helpers.parts import make_part
from helpers.plans import random_plan
from helpers.recorded import recorded_of
from helpers.tapped import tapped
from ssmith.calibrate import (
    RecordedTarget,
    WhiteTarget,
    alternate,
    measure_moments,
    moments_between,
    white_moments,
)
from ssmith.calibrate.inputs import fit_inputs
from ssmith.calibrate.record import respond
from ssmith.calibrate.siso import CorrelationSums, sums_for
from ssmith.calibrate.sums import StateSums
from ssmith.core.compensation import RefitConfig
from ssmith.families import find_layers
from ssmith.surgery import refit_readout

LENGTHS = [30, 21, 30, 8]
MIMO = [kind for kind in KINDS if kind.family == "s5"]
NOTHING = torch.zeros(3, dtype=torch.float64)


def recorded(kind, seed=0):
    """A layer's modes, and what another model's layer gives on the same sequences."""
    model = make_model(kind, seed=seed, layers=1)
    ((name, layer),) = find_layers(model).items()
    recordings = recorded_of(model, make_part(model, LENGTHS, seed=seed), name, reference=model)
    D = layer.get_parameter("D").detach()
    return layer.modes(name), RecordedTarget(recordings=recordings, D=D)


def readout(config):
    return lambda modes, moments: refit_readout(modes, moments, modes.present, config, width=3)


def squared(modes, target):
    """Summed squared error of a layer on what was recorded."""
    errors = [item.residual(modes, target.D).detach() for item in target.recordings]
    return sum(float((error**2).sum()) for error in errors)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_layers_own_modes_lack_nothing(kind):
    modes, target = recorded(kind)
    assert squared(modes, target) < 1e-10
    assert target.moments(modes, NOTHING).error_energy.max() < 1e-10


@pytest.mark.parametrize("kind", MIMO, ids=str)
def test_many_steps_are_least_squares_on_explicit_features(kind):
    modes, target = recorded(kind)
    kept = modes.only(torch.tensor([True, False, True, False, False, True]))
    columns = []
    for state in range(kept.count):
        for channel in range(3):
            for part in (1.0, 1j):
                B = torch.zeros_like(kept.B_bar)
                B[state, channel] = part
                unit = dataclasses.replace(kept, B_bar=B)
                columns.append(
                    torch.cat(
                        [respond(unit, s.u.double())[s.valid].flatten() for s in target.recordings]
                    )
                )
    features = torch.stack(columns, dim=1).detach().numpy()
    wanted = torch.cat([(s.wanted - target.D * s.u)[s.valid].flatten() for s in target.recordings])
    wanted = wanted.detach().numpy()
    best = features @ np.linalg.lstsq(features, wanted, rcond=1e-12)[0]
    B_bar = fit_inputs(kept, target.D, target.recordings, steps=400)
    found = squared(dataclasses.replace(kept, B_bar=B_bar), target)
    assert found == pytest.approx(float(((wanted - best) ** 2).sum()), rel=1e-3, abs=1e-9)
    assert squared(kept, target) >= found


@settings(max_examples=10)
@given(
    kind=st.sampled_from(KINDS), seed=st.integers(0, 99), white=st.booleans(), direct=st.booleans()
)
def test_every_round_lowers_the_error_for_any_kept_set(kind, seed, white, direct):
    modes, target = recorded(kind, seed)
    keep = random_mask(modes.count, seed=seed, keep=0.6)
    config = RefitConfig(direct=direct)
    start = dataclasses.replace(modes, present=keep)
    if white:
        target = WhiteTarget(dense=modes, ridge=config.ridge)
    errors = [
        alternate(start, target, readout(config), rounds=rounds, change=NOTHING).error
        for rounds in range(4)
    ]
    scale = errors[0][0] + 1e-6
    assert errors[0][1] <= errors[0][0] + 1e-9 * scale
    for (_, first), (_, second) in itertools.pairwise(errors):
        assert second <= first + 1e-8 * scale


def impulse_energy(modes, dense, change):
    """Energy of the difference of two layers' impulse responses, and of a change of D."""
    slowest = float(dense.A_bar.abs().max())
    total, half = 0.0, math.ceil(math.log(1e-5) / math.log(slowest))
    for channel in range(3):
        u = torch.zeros(1, 2 * half + 1, 3, dtype=torch.float64)
        u[0, half, channel] = 1.0
        lacking = respond(dense, u) - respond(modes, u) - change * u
        total += float((lacking.detach() ** 2).sum())
    return total


@pytest.mark.parametrize("kind", MIMO, ids=str)
def test_white_refits_reach_the_least_energy_in_either_half(kind):
    dense = make_layer(kind, dt_min=0.3, dt_max=0.5).modes("layer")
    keep = torch.tensor([True, True, False, True, False, False])
    start = dataclasses.replace(dense, present=keep)
    target = WhiteTarget(dense=dense, ridge=1e-12)
    config = RefitConfig(direct=True, ridge=1e-12)
    found = alternate(start, target, readout(config), rounds=3, change=NOTHING)
    now = dataclasses.replace(start, B_bar=found.B_bar, C=found.C, C_back=found.C_back)
    energy = impulse_energy(now, dense, found.D_change)
    assert found.error[1] == pytest.approx(energy, rel=1e-6)
    assert found.error[0] == pytest.approx(impulse_energy(start, dense, NOTHING), rel=1e-6)
    best = dataclasses.replace(now, B_bar=target.inputs(now, found.D_change))
    least = impulse_energy(best, dense, found.D_change)
    assert least <= energy * (1 + 1e-9)
    for seed in range(4):
        draw = torch.Generator().manual_seed(seed)
        shift = 1e-3 * torch.randn(best.B_bar.shape, generator=draw, dtype=torch.float64)
        moved = dataclasses.replace(best, B_bar=best.B_bar + shift * (1 + 1j))
        assert impulse_energy(moved, dense, found.D_change) > least


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.family != "s5"], ids=str)
def test_correlations_give_the_moments_of_explicit_states(kind):
    model = make_model(kind, layers=1, states=(kind.states,))
    ((name, layer),) = find_layers(model).items()
    with torch.no_grad():
        # A real eigenvalue, an almost real one, and one that turns fast.
        layer.get_parameter("A_imag").view(-1)[:3] = torch.tensor([0.0, 1e-7, 9.0])
    part = make_part(model, LENGTHS)
    with tapped(model) as tap, torch.no_grad():
        model(part.x.double(), part.lengths)
    u, y = tap[name]
    modes, valid = layer.modes(name), torch.arange(30) < part.lengths.unsqueeze(1)
    sums = [CorrelationSums(modes=modes), StateSums(modes=modes)]
    for item in sums:
        item.add(u[:3], valid[:3], y[:3])
        item.add(u[3:, :9], valid[3:, :9], y[3:, :9])
    found, expected = (item.result() for item in sums)
    size = expected.gram.diagonal(dim1=1, dim2=2).sqrt()
    size = torch.where(size > 0, size, 1.0)
    shares = [item.gram / (size.unsqueeze(1) * size.unsqueeze(2)) for item in (found, expected)]
    # Relative to the size of each feature, however small it is.
    torch.testing.assert_close(*shares, rtol=1e-9, atol=1e-9)
    for field in ("error", "error_energy", "input", "input_energy", "input_error"):
        first, second = getattr(found, field), getattr(expected, field)
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


def test_states_that_hardly_decay_are_summed_one_by_one():
    modes = make_layer(Kind("s4d")).modes("layer")
    assert isinstance(sums_for(modes), CorrelationSums)
    modes.A_bar[0] = 1.0
    assert isinstance(sums_for(modes), StateSums)
    assert isinstance(sums_for(make_layer(Kind("s5")).modes("layer")), StateSums)


def test_a_record_is_of_the_cut_model_towards_the_dense_one():
    model = make_model(Kind("s5"))
    part = make_part(model, LENGTHS)
    cut = copy.deepcopy(model)
    first, second = find_layers(cut)
    for name, keep in random_plan(model, seed=2).cuts[0].keep.items():
        find_layers(cut)[name].mask_(keep)
    layer = find_layers(cut)[second]
    target = RecordedTarget(
        recordings=recorded_of(cut, part, second, reference=model, batch_size=3),
        D=layer.get_parameter("D").detach(),
    )
    expected = measure_moments(cut, part, reference=model, layers=[second])[second]
    found = target.moments(layer.modes(second), NOTHING)
    torch.testing.assert_close(found.error, expected.error, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.error_energy, expected.error_energy, rtol=1e-9, atol=1e-12)
    again = moments_between(layer.modes(second), target.recordings)
    torch.testing.assert_close(again.error, expected.error, rtol=1e-9, atol=1e-12)
    assert first in white_moments(layer.modes(first)).layer
