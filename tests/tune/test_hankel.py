"""Hankel singular values of layers, their gradients, and what training with them does."""

import itertools

import pytest
import scipy.linalg
import torch

from helpers.models import KINDS, Kind, make_layer, make_model
from ssmith.core.errors import InputError, ModelError
from ssmith.core.layout import Layout
from ssmith.core.sequences import SequenceData, Sequences
from ssmith.surgery.systems import system_of_modes
from ssmith.tune import FitConfig, fit, hankel_penalty
from ssmith.tune.hankel import hankel_values


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_values_are_those_of_a_lyapunov_solver(kind):
    layer = make_layer(kind, dt_min=0.3, dt_max=0.5)
    modes = layer.modes("layer")
    found = hankel_values(layer).detach()
    factor = 2.0 if modes.conjugate else 1.0
    for group, slots in enumerate(Layout.of(modes).slots):
        own = slots[slots >= 0]
        reads = [item[own] for item in (modes.C, modes.C_back) if item is not None]
        system = system_of_modes(modes.A_bar[own], modes.B_bar[own], torch.cat(reads, 1), factor)
        F, G, W = (item.detach().numpy() for item in (system.F, system.G, system.W))
        P = scipy.linalg.solve_discrete_lyapunov(F, G @ G.T)
        Q = scipy.linalg.solve_discrete_lyapunov(F.T, W.T @ W)
        expected = torch.from_numpy(scipy.linalg.eigvals(P @ Q).real).clamp(min=0).sqrt()
        values = found[group].flip(0)[: len(expected)]
        expected = expected.sort(descending=True).values
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=2e-4 * float(expected[0]))


@pytest.mark.parametrize("kind", [Kind("s5"), Kind("s5", bidirectional=True), Kind("s4d")], ids=str)
def test_the_slope_is_that_of_small_steps(kind):
    model = make_model(kind, layers=1)
    hankel_penalty(model).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is None or "ssm" not in name or name.endswith("D"):
            continue
        index = int(parameter.grad.abs().argmax())
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.view(-1)[index] += step
                values.append(float(hankel_penalty(model)))
                parameter.view(-1)[index] -= step
        slope = (values[0] - values[1]) / 2e-5
        assert float(parameter.grad.view(-1)[index]) == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_scaling_a_layer_changes_nothing():
    model = make_model(Kind("s5"), layers=1)
    before = float(hankel_penalty(model).detach())
    with torch.no_grad():
        model.blocks[0].ssm.get_parameter("C").mul_(7.0)
    assert float(hankel_penalty(model).detach()) == pytest.approx(before, rel=1e-6)


def test_training_with_it_leaves_fewer_states_to_keep():
    draw = torch.Generator().manual_seed(0)
    part = Sequences(
        x=torch.randn(16, 10, 2, generator=draw),
        lengths=torch.full((16,), 10),
        y=torch.arange(16) % 4,
    )
    data = SequenceData(name="noise", task="classification", splits={"train": part})
    after = []
    for weight in (0.0, 1.0):
        model = make_model(Kind("s5"), dtype=torch.float32)
        config = FitConfig(epochs=6, batch_size=8, lr=1e-2, ssm_lr=1e-2, hankel=weight)
        # Each epoch counts as the best so far, so that the last one's weights stay.
        epochs = itertools.count()
        fit(model, data, config, lambda _, epochs=epochs: (float(next(epochs)),))
        after.append(float(hankel_penalty(model).detach()))
    assert after[1] < 0.9 * after[0]


def test_what_it_cannot_do_is_named():
    with pytest.raises(ModelError, match="no state space layer with states"):
        hankel_penalty(make_model(Kind("s5"), states=(0, 0)))
    with pytest.raises(InputError, match="hankel"):
        FitConfig(hankel=-1.0)
