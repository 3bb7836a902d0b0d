"""LAST and AIRE against their procedures, written out step by step."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from criteria.layers import check_again_with, make_layer
from ssmith.core.budget import Budget
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.criteria import AIRE, LAMP, LAST, Hinf


def last_of_layer(modes, released=False):
    """The published procedure, state by state."""
    A, B, C = modes.A_bar.numpy(), modes.B_bar.numpy(), modes.C.numpy()
    raw = []
    for i in range(len(A)):
        read_out = math.sqrt(sum(abs(c) ** 2 for c in C[i])) ** 2
        if modes.C_back is not None:
            a, b = np.linalg.norm(C[i]), np.linalg.norm(modes.C_back.numpy()[i])
            read_out = (a + b) / 4 if released else ((a + b) / 2) ** 2
        gap = (1 - abs(A[i])) ** 2 + (1e-8 if released else 0.0)
        raw.append(read_out * sum(abs(b) ** 2 for b in B[i]) / gap)
    return share_of_the_larger(raw)


def aire_of_layer(modes, released=False):
    A, B, C = modes.A_bar.numpy(), modes.B_bar.numpy(), modes.C.numpy()
    eps = 1e-8 if released else 0.0
    raw = []
    for i in range(len(A)):
        read_out = np.linalg.norm(C[i]) ** 2
        if modes.C_back is not None:
            a, b = np.linalg.norm(C[i]), np.linalg.norm(modes.C_back.numpy()[i])
            read_out = (a + b) / 4 if released else (a**2 + b**2) / 2
        raw.append(read_out * np.linalg.norm(B[i]) ** 2 / (1 - abs(A[i]) ** 2 + eps))
    return share_of_the_larger(raw, eps)


def share_of_the_larger(raw, eps=0.0):
    return [r / (sum(q for q in raw if q >= r) + eps) for r in raw]


ORACLES = [
    (LAST(), last_of_layer, False),
    (LAST(variant="released"), last_of_layer, True),
    (AIRE(), aire_of_layer, False),
    (AIRE(variant="released"), aire_of_layer, True),
]


@pytest.mark.parametrize("two_way", [False, True])
@pytest.mark.parametrize(("criterion", "oracle", "released"), ORACLES)
def test_scores_follow_the_procedure(criterion, oracle, released, two_way):
    layers = [make_layer(seed, two_way=two_way, scale=10.0**-seed) for seed in range(4)]
    scores = criterion(layers)
    assert scores.pool == "model"
    for modes in layers:
        np.testing.assert_allclose(scores.values[modes.layer], oracle(modes, released), rtol=1e-12)


@pytest.mark.parametrize("cls", [LAST, AIRE])
def test_released_slip_changes_the_ranking(cls):
    """Two states of one layer: the slip takes a root of the read-out and reverses their order."""
    modes = make_layer(0, states=2, inputs=1, outputs=1, two_way=True)
    modes = dataclasses.replace(
        modes,
        A_bar=torch.tensor([0.5, 0.5], dtype=torch.complex128),
        B_bar=torch.tensor([[1.0], [4.0]], dtype=torch.complex128),
        C=torch.tensor([[9.0], [1.0]], dtype=torch.complex128),
        C_back=torch.tensor([[9.0], [1.0]], dtype=torch.complex128),
    )
    intended, released = cls()([modes]), cls(variant="released")([modes])
    assert intended.values[modes.layer].argmax() == 0
    assert released.values[modes.layer].argmax() == 1


def test_released_constant_caps_very_slow_states():
    modes = make_layer(0, states=2, inputs=1, outputs=1)
    slow = dataclasses.replace(
        modes,
        A_bar=torch.tensor([1 - 1e-7, 1 - 1e-6], dtype=torch.complex128),
        B_bar=torch.tensor([[1.0], [2.0]], dtype=torch.complex128),
        C=torch.ones(2, 1, dtype=torch.complex128),
    )
    assert LAST()([slow]).values[slow.layer].argmax() == 0
    assert LAST(variant="released")([slow]).values[slow.layer].argmax() == 1


@pytest.mark.parametrize("norm", ["mode", "exact"])
@pytest.mark.parametrize("cls", [LAST, AIRE])
def test_best_state_of_every_layer_scores_one(cls, norm):
    layers = [make_layer(seed, states=5 + seed, two_way=seed % 2 == 0) for seed in range(5)]
    for values in cls(norm=norm)(layers).values.values():
        assert float(values.max()) == 1.0
        assert float(values.min()) > 0.0


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1000),
    exponent=st.integers(-20, 20),
    two_way=st.booleans(),
    norm=st.sampled_from(["mode", "exact"]),
)
def test_scale_of_a_layer_does_not_matter(seed, exponent, two_way, norm):
    modes = make_layer(seed, two_way=two_way)
    scaled = dataclasses.replace(modes, B_bar=modes.B_bar * 2.0**exponent)
    for criterion in (LAST(norm=norm), AIRE(norm=norm), LAMP()):
        before, after = criterion([modes]), criterion([scaled])
        torch.testing.assert_close(
            before.values[modes.layer], after.values[modes.layer], rtol=1e-12, atol=0
        )


@pytest.mark.parametrize(("cls", "alpha"), [(LAST, 2), (AIRE, 1)])
def test_exact_norms_of_real_siso_states(cls, alpha):
    """Real λ, b, c: the pair's amplitude doubles for every state, so the ratios stay."""
    modes = make_layer(0, states=6, inputs=1, outputs=1)
    modes = dataclasses.replace(
        modes,
        A_bar=modes.A_bar.abs().to(torch.complex128),
        B_bar=modes.B_bar.real.to(torch.complex128),
        C=modes.C.real.to(torch.complex128),
    )
    by_mode, exact = cls()([modes]), cls(norm="exact")([modes])
    torch.testing.assert_close(by_mode.values, exact.values, rtol=1e-9, atol=0)


@pytest.mark.parametrize("cls", [LAST, AIRE, Hinf])
def test_exact_norm_of_the_real_output_alone(cls):
    """Re(C x) is half of 2·Re(C x): the energy drops to a quarter, the ratios stay."""
    pair, single = make_layer(1, two_way=True), make_layer(1, two_way=True, conjugate=False)
    ratio = 4.0 if cls is Hinf else 1.0
    criterion = cls(norm="exact")
    torch.testing.assert_close(
        criterion([pair]).values[pair.layer], ratio * criterion([single]).values[pair.layer]
    )


@pytest.mark.parametrize("cls", [LAST, AIRE, LAMP])
def test_channels_are_normalised_one_by_one(cls):
    modes = make_layer(3, states=4, channels=5)
    scores = cls(normalise_over="channel")([modes]).values[modes.layer]
    assert scores.shape == (5, 4)
    for channel in range(5):
        chosen = modes.channel == channel
        alone = dataclasses.replace(
            modes,
            A_bar=modes.A_bar[chosen],
            B_bar=modes.B_bar[chosen],
            C=modes.C[chosen],
            channel=None,
            grid=(4,),
            present=modes.present[chosen],
        )
        torch.testing.assert_close(
            scores[channel], cls()([alone]).values[modes.layer], rtol=1e-12, atol=0
        )


def test_channels_of_unequal_size_and_any_order():
    modes = make_layer(4, states=7, channels=1)
    channel = torch.tensor([2, 0, 2, 5, 0, 2, 2])
    modes = dataclasses.replace(modes, channel=channel, grid=(7,))
    scores = LAST(normalise_over="channel")([modes]).values[modes.layer]
    raw = Hinf()([modes]).values[modes.layer]
    for i in range(7):
        rivals = raw[(channel == channel[i]) & (raw >= raw[i])]
        assert float(scores[i]) == pytest.approx(float(raw[i] / rivals.sum()), rel=1e-12)


@pytest.mark.parametrize("cls", [LAST, AIRE, LAMP])
def test_mimo_layers_have_no_channels(cls):
    with pytest.raises(UnsupportedError, match="MIMO"):
        cls(normalise_over="channel")([make_layer(0)])


@pytest.mark.parametrize("cls", [LAST, AIRE, Hinf])
def test_settings_are_checked(cls):
    with pytest.raises(InputError, match="variant"):
        check_again_with(cls(), variant="fixed")
    with pytest.raises(InputError, match="norm"):
        check_again_with(cls(), norm="hankel")
    with pytest.raises(InputError, match="'released' and norm is 'exact'"):
        cls(variant="released", norm="exact")


def test_budget_counts_as_the_released_code_counts():
    for states in (1, 8, 64, 96):
        for layers in (1, 4, 6, 8):
            for percent in range(100):
                expected = max(int(states * layers * (100 - percent) / 100), 1)
                gone = Budget("state", percent / 100).removed_of(states * layers)
                assert states * layers - gone == expected
