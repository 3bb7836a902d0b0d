"""Refits against least squares on explicit features; what they promise, for every kind of layer."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models import KINDS, Kind, make_input, make_model, random_mask
from helpers.parts import make_part
from helpers.plans import compensated, plan_for, random_plan
from helpers.regression import features
from helpers.tapped import tapped
from helpers.tolerances import assert_close
from helpers.unchecked import build
from ssmith.calibrate import measure_moments, white_moments
from ssmith.core.compensation import Compensation, RefitConfig
from ssmith.core.errors import InputError
from ssmith.families import find_layers, modes_of
from ssmith.surgery import prune_, refit

kinds = pytest.mark.parametrize("kind", KINDS, ids=str)
LENGTHS = [40, 33, 40, 12]


def recorded(model, part, name):
    """Input and output of a layer at the valid steps, the former per sequence."""
    with tapped(model) as tap, torch.no_grad():
        model(part.x.double(), part.lengths)
    u, y = tap[name]
    inputs = [row[:n] for row, n in zip(u, LENGTHS, strict=True)]
    return inputs, torch.cat([row[:n] for row, n in zip(y, LENGTHS, strict=True)]).numpy()


@kinds
@pytest.mark.parametrize("direct", [False, True])
def test_refit_is_least_squares_on_explicit_features(kind, direct):
    model = make_model(kind, layers=1)
    part = make_part(model, LENGTHS)
    ((name, layer),) = find_layers(model).items()
    plan = random_plan(model, seed=3, keep=0.6)
    keep = plan.cuts[0].keep[name].flatten()
    inputs, y = recorded(model, part, name)
    found = refit(model, plan.cuts[0], measure_moments(model, part), RefitConfig(direct=direct))
    shrunk = copy.deepcopy(model)
    prune_(shrunk, compensated(model, plan, found))
    cut = find_layers(shrunk)[name]
    with torch.no_grad():
        after = torch.cat([cut(row.unsqueeze(0))[0] for row in inputs]).numpy()
    z = np.concatenate([features(layer, row, len(row)) for row in inputs])[:, keep.numpy()]
    u = torch.cat(inputs).numpy()
    own = u * layer.get_parameter("D").detach().numpy()
    error = 0.0
    for channel in range(layer.width):
        mine = np.ones(z.shape[1], dtype=bool)
        if layer.family == "s4d":
            mine = layer.channel[keep].numpy() == channel
        regressors = z[:, mine].reshape(len(z), -1)
        has_states = layer.family == "s5" or channel in layer.channel.tolist()
        if direct and has_states:
            regressors = np.concatenate([regressors, u[:, [channel]]], axis=1)
        wanted = (y - own)[:, channel]
        fitted = np.zeros(len(z))
        if regressors.shape[1]:
            fitted = regressors @ np.linalg.lstsq(regressors, wanted, rcond=1e-10)[0]
        np.testing.assert_allclose(after[:, channel], fitted + own[:, channel], atol=2e-4)
        error += ((wanted - fitted) ** 2).mean()
    assert found.readouts[name].error[1] == pytest.approx(error, rel=1e-3, abs=1e-7)


@settings(max_examples=12)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 1000),
    keep=st.sampled_from([0.0, 0.3, 0.7, 1.1]),
    direct=st.booleans(),
)
def test_refit_never_raises_the_error_on_what_it_was_fitted_to(kind, seed, keep, direct):
    model = make_model(kind, seed=seed)
    plan = random_plan(model, seed=seed, keep=keep)
    part = make_part(model, LENGTHS, seed=seed)
    for moments in (
        measure_moments(model, part),
        {modes.layer: white_moments(modes) for modes in modes_of(model)},
    ):
        for readout in refit(
            model, plan.cuts[0], moments, RefitConfig(direct=direct)
        ).readouts.values():
            before, after = readout.error
            assert after <= before * (1 + 1e-9) + 1e-9


@kinds
def test_keeping_everything_changes_nothing(kind):
    model = make_model(kind)
    plan = random_plan(model, keep=1.1)
    found = refit(model, plan.cuts[0], measure_moments(model, make_part(model, LENGTHS)))
    other = copy.deepcopy(model)
    prune_(other, compensated(model, plan, found))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-12, atol=1e-14)


@kinds
@pytest.mark.parametrize("direct", [False, True])
def test_shrunk_is_the_compensated_mask(kind, direct):
    model = make_model(kind)
    plan = random_plan(model, seed=5)
    x = make_input(model)
    found = refit(
        model,
        plan.cuts[0],
        measure_moments(model, make_part(model, LENGTHS)),
        RefitConfig(direct=direct),
    )
    models = {mode: copy.deepcopy(model) for mode in ("mask", "shrink")}
    for mode, other in models.items():
        prune_(other, compensated(model, plan, found), mode)
    with torch.no_grad():
        assert_close("surgery", models["shrink"](x), models["mask"](x))
        assert not torch.equal(models["shrink"](x), model(x))


@kinds
def test_white_moments_give_the_h2_optimal_readout(kind):
    """No other read-out of the kept states has a response closer to the dense layer's."""
    model = make_model(kind, layers=1, options={"step_rescale": 3.0})
    ((name, layer),) = find_layers(model).items()
    plan = random_plan(model, seed=1, keep=0.6)
    found = refit(model, plan.cuts[0], {name: white_moments(layer.modes(name))})
    slowest = float(layer.modes(name).A_bar.abs().max())
    length = 2 * math.ceil(math.log(1e-10) / math.log(slowest))
    u = torch.zeros(layer.width, length, layer.width, dtype=torch.float64)
    u[torch.arange(layer.width), length // 2, torch.arange(layer.width)] = 1.0

    def distance(compensation):
        other = copy.deepcopy(model)
        prune_(other, compensated(model, plan, compensation), "mask")
        with torch.no_grad():
            return float(((find_layers(other)[name](u) - layer(u)) ** 2).sum())

    best = distance(found)
    before, after = found.readouts[name].error
    assert best == pytest.approx(after, rel=1e-6, abs=1e-9)
    assert distance(None) == pytest.approx(before, rel=1e-6, abs=1e-9)
    draw = torch.Generator().manual_seed(0)
    readout = found.readouts[name]
    for _ in range(3):
        noise = 1e-3 * torch.randn(readout.C.shape, dtype=torch.complex128, generator=draw)
        moved = dataclasses.replace(readout, C=readout.C + noise)
        other = Compensation(readouts={name: moved}, settings={})
        assert distance(other) >= best * (1 - 1e-9) - 1e-12


def test_a_masked_state_stays_out_of_the_fit():
    model = make_model(Kind("s5"))
    part = make_part(model, LENGTHS)
    first = random_plan(model, seed=2, keep=0.6)
    prune_(model, first, "mask")
    found = refit(model, random_plan(model, keep=1.1).cuts[0], measure_moments(model, part))
    for name, readout in found.readouts.items():
        assert not readout.C[~first.cuts[0].keep[name]].any()
        assert readout.error == pytest.approx((0.0, 0.0), abs=1e-12)


def test_a_refit_says_how_it_was_made():
    model = make_model(Kind("s5"))
    cut, config = random_plan(model).cuts[0], RefitConfig(ridge=1e-6)
    found = refit(model, cut, measure_moments(model, make_part(model, LENGTHS)), config)
    assert found.settings == {
        "fitted": "all layers at once",
        "source": "data",
        "steps": sum(LENGTHS),
        "ridge": 1e-6,
        "direct": False,
        "rounds": 0,
        "poles": "kept",
        "worst_condition": 1e3,
    }
    for readout in found.readouts.values():
        before, after = readout.error
        assert after < before


def test_missing_moments_are_named():
    model = make_model(Kind("s5"))
    moments = measure_moments(model, make_part(model, LENGTHS), layers=["blocks.1.ssm"])
    with pytest.raises(InputError, match=r"no moments of layer blocks\.0\.ssm"):
        refit(model, random_plan(model).cuts[0], moments)
    other = measure_moments(make_model(Kind("s5"), states=(4, 4)), make_part(model, LENGTHS))
    with pytest.raises(InputError, match=r"blocks\.0\.ssm: moments of shape"):
        refit(model, random_plan(model).cuts[0], other)


@pytest.mark.parametrize(("setting", "value"), [("ridge", 0.0), ("ridge", True), ("direct", 1)])
def test_bad_settings_are_named(setting, value):
    with pytest.raises(InputError, match=setting):
        build(RefitConfig, **{setting: value})


def test_an_emptied_layer_is_compensated_by_its_skip_path_alone():
    model = make_model(Kind("s5"), layers=1)
    ((name, layer),) = find_layers(model).items()
    keep = {name: random_mask(layer.grid(), keep=0.0)}
    part = make_part(model, LENGTHS)
    inputs, y = recorded(model, part, name)
    found = refit(
        model, plan_for(model, keep).cuts[0], measure_moments(model, part), RefitConfig(direct=True)
    )
    u, D = torch.cat(inputs).numpy(), layer.get_parameter("D").detach().numpy()
    best = (u * y).sum(0) / (u * u).sum(0)
    np.testing.assert_allclose(found.readouts[name].D_change, best - D, rtol=1e-6)


def test_a_feature_that_is_rounding_gets_no_read_out():
    """The imaginary part of a state with a real eigenvalue tells nothing, whatever it fits."""
    model = make_model(Kind("s4d"), layers=1)
    ((name, layer),) = find_layers(model).items()
    with torch.no_grad():
        layer.get_parameter("A_imag")[:, 0] = 1e-14
    keep = torch.zeros(layer.grid(), dtype=torch.bool)
    keep[:, 0] = True
    moments = measure_moments(model, make_part(model, LENGTHS))
    found = refit(model, plan_for(model, {name: keep}).cuts[0], moments).readouts[name]
    assert float(found.C.abs().max()) < 1e3
