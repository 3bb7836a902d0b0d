"""Moments against plain loops, in any order of batches, with padding, and under white noise."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models import KINDS, Kind, make_layer, make_model
from helpers.parts import make_part
from helpers.regression import features
from helpers.tapped import tapped
from helpers.unchecked import unchecked
from ssmith.calibrate import measure_moments, white_moments
from ssmith.core.errors import DataError, InputError, NumericalError
from ssmith.core.layout import Layout
from ssmith.families import find_layers

kinds = pytest.mark.parametrize("kind", KINDS, ids=str)
LENGTHS = [9, 4, 1, 7]


def grouped(layer, table):
    """Lay a table of states (s, parts, …) out as the layer's groups (g, f, …), zeros where none."""
    if layer.family == "s5":
        return table.reshape(1, -1, *table.shape[2:])
    owner = layer.channel.numpy()
    groups = [table[owner == channel] for channel in sorted(set(owner.tolist()))]
    most = max(len(rows) for rows in groups)
    out = np.zeros((len(groups), most, *table.shape[1:]), dtype=table.dtype)
    for rows, place in zip(groups, out, strict=True):
        place[: len(rows)] = rows
    return out.reshape(len(groups), -1, *table.shape[2:])


@kinds
def test_moments_are_those_of_plain_loops(kind):
    model = make_model(kind)
    part = make_part(model, LENGTHS)
    found = measure_moments(model, part)
    with tapped(model) as tap, torch.no_grad():
        model(part.x.double(), part.lengths)
    for name, layer in find_layers(model).items():
        u, _ = tap[name]
        z = np.concatenate(
            [features(layer, u[i], n) for i, n in enumerate(LENGTHS)]
        )  # (steps, s, parts)
        rows = grouped(layer, np.moveaxis(z, 0, -1))
        expected = np.einsum("gft,get->gfe", rows, rows) / sum(LENGTHS)
        np.testing.assert_allclose(found[name].gram.numpy(), expected, rtol=1e-10, atol=1e-12)
        given_u = np.concatenate([u[i, :n].numpy() for i, n in enumerate(LENGTHS)])
        if layer.family == "s5":
            crossed = np.einsum("gft,tm->gfm", rows, given_u)
            energy = (given_u**2).sum(0, keepdims=True)
        else:
            own = given_u[:, sorted(set(layer.channel.tolist()))].T
            crossed = np.einsum("gft,gt->gf", rows, own)[..., None]
            energy = (own**2).sum(1, keepdims=True)
        steps = sum(LENGTHS)
        np.testing.assert_allclose(found[name].input, crossed / steps, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(found[name].input_energy, energy / steps, rtol=1e-10)
        assert found[name].steps == steps
        assert found[name].source == "data"
        assert not found[name].error.any()
        assert not found[name].error_energy.any()


@settings(max_examples=12)
@given(
    order=st.permutations(range(len(LENGTHS))),
    batch_size=st.integers(1, 5),
    kind=st.sampled_from(KINDS),
)
def test_streamed_is_one_shot_in_any_order(order, batch_size, kind):
    model = make_model(kind)
    part = make_part(model, LENGTHS)
    whole = measure_moments(model, part, batch_size=100)
    pieces = measure_moments(model, part.take(torch.tensor(order)), batch_size=batch_size)
    for name, moments in whole.items():
        for item in dataclasses.fields(moments):
            first, second = getattr(moments, item.name), getattr(pieces[name], item.name)
            if isinstance(first, torch.Tensor):
                torch.testing.assert_close(second, first, rtol=1e-10, atol=1e-12)
            else:
                assert first == second


@pytest.mark.parametrize("kind", [Kind("s5", bidirectional=True), Kind("s4d")], ids=str)
def test_what_stands_in_padded_steps_does_not_matter(kind):
    model = make_model(kind)
    part = make_part(model, LENGTHS)
    noisy = part.x.clone()
    for row, length in enumerate(LENGTHS):
        noisy[row, length:] = 1e3
    other = measure_moments(model, dataclasses.replace(part, x=noisy))
    for name, moments in measure_moments(model, part).items():
        assert torch.equal(moments.gram, other[name].gram)


@kinds
def test_white_moments_are_the_sum_over_all_impulses(kind):
    layer = make_layer(kind, dt_min=0.3, dt_max=0.5)
    modes = layer.modes("layer")
    found = white_moments(modes)
    slowest = float(modes.A_bar.abs().max())
    half, layout = math.ceil(math.log(1e-6) / math.log(slowest)), Layout.of(modes)
    gram = torch.zeros_like(found.gram)
    crossed = torch.zeros_like(found.input)
    for channel in range(layer.width):
        u = torch.zeros(2 * half + 1, layer.width, dtype=torch.float64)
        u[half, channel] = 1.0
        z = torch.from_numpy(grouped(layer, np.moveaxis(features(layer, u, len(u)), 0, -1)))
        gram += z @ z.mT
        crossed += z @ layout.signals(u)
    torch.testing.assert_close(found.gram, gram, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.input, crossed, rtol=1e-9, atol=1e-9)
    assert bool((found.input_energy == 1).all())
    assert (found.source, found.steps) == ("white", 0)


@kinds
def test_what_is_lacking_is_measured_against_the_reference(kind):
    model, other = make_model(kind), make_model(kind)
    name = next(iter(find_layers(model)))
    with torch.no_grad():
        find_layers(other)[name].get_parameter("D").add_(1.0)
    part = make_part(model, LENGTHS)
    found = measure_moments(model, part, reference=other, layers=[name])
    assert list(found) == [name]
    # The reference adds the input once more, so that is what the layer's output lacks.
    moments = found[name]
    torch.testing.assert_close(moments.error, moments.input, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(moments.error_energy, moments.input_energy, rtol=1e-9, atol=0)
    torch.testing.assert_close(moments.input_error, moments.input_energy, rtol=1e-9, atol=0)


def test_a_switched_off_state_has_no_moments():
    model = make_model(Kind("s5"))
    layer = next(iter(find_layers(model).values()))
    keep = torch.ones(6, dtype=torch.bool)
    keep[2] = False
    layer.mask_(keep)
    for moments in (
        measure_moments(model, make_part(model, LENGTHS))["blocks.0.ssm"],
        white_moments(layer.modes("layer")),
    ):
        dead = (moments.gram[0].diagonal() == 0).nonzero().flatten().tolist()
        assert dead == [4, 5]


def test_the_model_comes_back_as_it_was():
    model = make_model(Kind("s5"), dropout=0.5).train()
    model.head.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = measure_moments(model, make_part(model, LENGTHS))
    second = measure_moments(model, make_part(model, LENGTHS))
    assert torch.equal(first["blocks.1.ssm"].gram, second["blocks.1.ssm"].gram)
    assert model.training
    assert not model.head.training
    for layer in find_layers(model).values():
        assert not layer._forward_hooks
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_long_sequences_are_cut_into_smaller_batches(monkeypatch):
    model = make_model(Kind("s5", bidirectional=True))
    part = make_part(model, LENGTHS)
    whole = measure_moments(model, part)
    monkeypatch.setattr("ssmith.calibrate.sums.ROWS", 1)
    for name, moments in measure_moments(model, part).items():
        torch.testing.assert_close(moments.gram, whole[name].gram, rtol=1e-12, atol=1e-14)


def test_bad_input_is_named():
    model = make_model(Kind("s5"))
    part = make_part(model, LENGTHS)
    with pytest.raises(InputError, match=r"no layers \['x'\]; allowed: blocks\.0\.ssm"):
        measure_moments(model, part, layers=["x"])
    with pytest.raises(InputError, match="batch_size is 0"):
        measure_moments(model, part, batch_size=0)
    with pytest.raises(DataError, match="no valid step"):
        measure_moments(model, part.take(torch.tensor([], dtype=torch.int64)))
    broken = dataclasses.replace(part, x=torch.full_like(part.x, float("nan")))
    with pytest.raises(NumericalError, match=r"blocks\.0\.ssm: its states left"):
        measure_moments(model, broken)


def test_unstable_states_have_no_white_moments():
    modes = make_layer(Kind("s5")).modes("layer")
    modes.A_bar[1] = 1.0
    with pytest.raises(NumericalError, match="layer layer has states"):
        unchecked(white_moments)(modes)
    off = dataclasses.replace(modes, present=modes.present.clone())
    off.present[1] = False
    assert bool(torch.isfinite(white_moments(off).gram).all())
