"""Sensitivities against finite differences; what measuring them leaves behind."""

import copy

import pytest
import torch

from helpers.models import KINDS, Kind, make_model
from helpers.parts import make_part
from ssmith.calibrate import measure_moments, measure_sensitivity, with_sensitivity
from ssmith.core.errors import DataError
from ssmith.core.seeds import generator
from ssmith.families import find_layers

LENGTHS = [4, 2]
STEP = 1e-6


def shifted(model, part, name, shift):
    """The model's outputs when a layer's output is shifted."""
    hook = find_layers(model)[name].register_forward_hook(lambda _, __, out: out + shift)
    with torch.no_grad():
        out = model(part.x.double(), part.lengths)
    hook.remove()
    return out


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("kind", [Kind("s5", bidirectional=True), Kind("s4d_ragged")], ids=str)
def test_it_is_that_of_finite_differences(kind, centred):
    model = make_model(kind, activation="full_glu")
    part = make_part(model, LENGTHS)
    found = measure_sensitivity(model, part, centred=centred, seed=3)
    # Rows run in rising order of their lengths.
    mix = torch.randn(2, 4, generator=generator(3, "sensitivity"), dtype=torch.float64).flip(0)
    if centred:
        mix = mix - mix.mean(dim=1, keepdim=True)
    for name in find_layers(model):
        total = torch.zeros(3, 3, dtype=torch.float64)
        for row, length in enumerate(LENGTHS):
            for step in range(length):
                slope = torch.zeros(3, dtype=torch.float64)
                for channel in range(3):
                    shift = torch.zeros(2, max(LENGTHS), 3, dtype=torch.float64)
                    shift[row, step, channel] = STEP
                    change = shifted(model, part, name, shift) - shifted(model, part, name, -shift)
                    slope[channel] = (change * mix).sum() / (2 * STEP)
                total += slope.outer(slope)
        torch.testing.assert_close(found[name], total / sum(LENGTHS), rtol=1e-5, atol=1e-8)


def test_classes_that_all_rise_alike_do_not_count():
    model = make_model(Kind("s5"))
    part = make_part(model, LENGTHS)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.head.weight.add_(torch.tensor([3.0, -1.0, 2.0]))
    for centred, same in ((True, True), (False, False)):
        first = measure_sensitivity(model, part, centred=centred)["blocks.0.ssm"]
        second = measure_sensitivity(other, part, centred=centred)["blocks.0.ssm"]
        assert torch.allclose(first, second, rtol=1e-9) is same


def test_a_frozen_model_is_measured_and_left_as_it_was():
    model = make_model(Kind("s5"), dropout=0.5).train()
    part = make_part(model, LENGTHS)
    first = measure_sensitivity(model, part, centred=True)
    for parameter in model.parameters():
        assert parameter.grad is None
        parameter.requires_grad_(False)
    second = measure_sensitivity(model, part, centred=True)
    for name, layer in find_layers(model).items():
        assert torch.equal(first[name], second[name])
        assert not layer._forward_hooks
    assert model.training


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.conj_sym], ids=str)
def test_every_group_of_outputs_gets_its_own(kind):
    model = make_model(kind)
    part = make_part(model, LENGTHS)
    found = measure_sensitivity(model, part, centred=False)
    moments = with_sensitivity(model, measure_moments(model, part), found)
    for name, layer in find_layers(model).items():
        own = moments[name].sensitivity
        if layer.family == "s5":
            assert torch.equal(own[0], found[name])
        else:
            channels = sorted(set(layer.channel.tolist()))
            assert torch.equal(own[:, 0, 0], found[name].diagonal()[channels])


def test_nothing_to_measure_on_is_named():
    model = make_model(Kind("s5"))
    with pytest.raises(DataError, match="no valid step"):
        measure_sensitivity(
            model, make_part(model, LENGTHS).take(torch.tensor([]).long()), centred=True
        )
