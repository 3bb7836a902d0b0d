"""Laws that hold for every criterion over modes."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from criteria.layers import check_again_with, make_layer
from ssmith.core.errors import InputError, NumericalError
from ssmith.core.files import to_json
from ssmith.criteria import AIRE, LAMP, LAST, Hinf, Magnitude, Random, by_name

DATA_FREE = [
    LAST(),
    LAST(variant="released"),
    LAST(norm="exact"),
    AIRE(),
    AIRE(variant="released"),
    AIRE(norm="exact"),
    Hinf(pool="layer"),
    Hinf(pool="model", norm="exact"),
    Magnitude(pool="layer"),
    Magnitude(pool="model", weigh_by_radius=True),
    LAMP(),
    LAMP(weigh_by_radius=True),
]
EVERY = [*DATA_FREE, Random(seed=3), Random(pool="layer")]
every = pytest.mark.parametrize("criterion", EVERY, ids=repr)


def permuted(modes, order):
    return dataclasses.replace(
        modes,
        A_bar=modes.A_bar[order],
        B_bar=modes.B_bar[order],
        C=modes.C[order],
        C_back=None if modes.C_back is None else modes.C_back[order],
        present=modes.present[order],
    )


def with_values(modes, index, **values):
    changed = {name: getattr(modes, name).clone() for name in values}
    for name, value in values.items():
        changed[name][index] = value
    return dataclasses.replace(modes, **changed)


@every
def test_scores_have_the_grid_and_name_their_criterion(criterion):
    layers = [make_layer(0, two_way=True), make_layer(1, states=3, channels=4)]
    scores = criterion(layers)
    assert [tuple(v.shape) for v in scores.values.values()] == [(8,), (4, 3)]
    assert list(scores.values) == ["layers.0", "layers.1"]
    assert scores.unit == "state"
    assert scores.criterion["name"] == type(criterion).__name__
    assert "name" in to_json(scores.criterion)
    rebuilt = {k: v for k, v in scores.criterion.items() if k != "name"}
    assert type(criterion)(**rebuilt) == criterion
    assert criterion.needs == ()
    assert scores.findings == ()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 500), two_way=st.booleans(), which=st.sampled_from(DATA_FREE))
def test_permuting_states_permutes_scores(seed, two_way, which):
    modes = make_layer(seed, two_way=two_way)
    order = torch.randperm(modes.count, generator=torch.Generator().manual_seed(seed))
    before = which([modes]).values[modes.layer]
    after = which([permuted(modes, order)]).values[modes.layer]
    torch.testing.assert_close(after, before[order], rtol=1e-12, atol=0)


@every
def test_unstable_states_are_protected_and_take_no_part(criterion):
    modes = make_layer(5)
    unstable = with_values(
        modes, torch.tensor([2, 6]), A_bar=torch.tensor([1.0, 1.2j], dtype=torch.complex128)
    )
    scores = criterion([unstable])
    name = modes.layer
    assert scores.protected[name].nonzero().flatten().tolist() == [2, 6]
    assert scores.values[name][[2, 6]].tolist() == [0.0, 0.0]
    assert [(f.kind, f.units) for f in scores.findings] == [("unstable", (2, 6))]
    assert "2 of 8" in scores.findings[0].message
    rest = torch.tensor([0, 1, 3, 4, 5, 7])
    alone = dataclasses.replace(permuted(modes, rest), grid=(6,))
    torch.testing.assert_close(scores.values[name][rest], criterion([alone]).values[name])


@every
def test_masked_states_are_absent_and_take_no_part(criterion):
    modes = make_layer(5)
    masked = with_values(modes, torch.tensor([0, 3]), present=False, A_bar=2.0)
    scores = criterion([masked])
    name = modes.layer
    assert scores.absent[name].nonzero().flatten().tolist() == [0, 3]
    assert not scores.protected[name].any()
    assert scores.findings == ()
    rest = torch.tensor([1, 2, 4, 5, 6, 7])
    alone = dataclasses.replace(permuted(modes, rest), grid=(6,))
    torch.testing.assert_close(scores.values[name][rest], criterion([alone]).values[name])


@every
def test_scores_carry_no_gradient(criterion):
    modes = make_layer(0)
    live = dataclasses.replace(modes, B_bar=modes.B_bar.requires_grad_())
    assert not criterion([live]).values[modes.layer].requires_grad


@every
@pytest.mark.parametrize("tensor", ["A_bar", "B_bar", "C", "C_back"])
def test_broken_weights_are_named(criterion, tensor):
    fine, broken = make_layer(0, two_way=True), make_layer(1, two_way=True)
    broken = with_values(broken, 4, **{tensor: complex("nan")})
    with pytest.raises(NumericalError, match=rf"layers\.1: \d+ of \d+ values of {tensor} "):
        criterion([fine, broken])


@pytest.mark.parametrize("criterion", DATA_FREE, ids=repr)
def test_scores_beyond_float64_are_an_error(criterion):
    huge = make_layer(1, scale=1e200)
    with pytest.raises(NumericalError, match=r"layers\.1: \d+ of 8 scores are not finite"):
        criterion([make_layer(0), huge])


@every
def test_layer_without_states(criterion):
    scores = criterion([make_layer(0, states=0), make_layer(1)])
    assert scores.values["layers.0"].shape == (0,)
    assert scores.findings == ()


@every
def test_layers_must_exist_and_be_told_apart(criterion):
    with pytest.raises(InputError, match="layers to score"):
        criterion([])
    with pytest.raises(InputError, match="layers to score"):
        criterion([make_layer(0), make_layer(0)])


@pytest.mark.parametrize("criterion", DATA_FREE, ids=repr)
def test_silent_states_score_zero(criterion):
    modes = make_layer(2)
    one = with_values(modes, 3, C=0.0)
    values = criterion([one]).values[modes.layer]
    assert values[3] == 0.0
    assert int((values > 0).sum()) == 7
    all_silent = criterion([dataclasses.replace(modes, C=torch.zeros_like(modes.C))])
    assert not all_silent.values[modes.layer].any()
    assert [finding.kind for finding in all_silent.findings] == ["silent"]


def test_prefix_survives_three_hundred_orders():
    modes = make_layer(0, states=4, inputs=1, outputs=1)
    sizes = torch.tensor([[1e60], [1e-90], [1e-20], [1e59]], dtype=torch.complex128)
    modes = dataclasses.replace(
        modes,
        A_bar=torch.full((4,), 0.5, dtype=torch.complex128),
        B_bar=torch.ones(4, 1, dtype=torch.complex128),
        C=sizes,
    )
    expected = torch.tensor([1.0, 1e-300 / 1.01, 1e-160 / 1.01, 0.01 / 1.01], dtype=torch.float64)
    for criterion in (LAST(), AIRE(), LAMP()):
        values = criterion([modes]).values[modes.layer]
        torch.testing.assert_close(values, expected, rtol=1e-12, atol=0)


def test_equal_states_rank_by_index():
    modes = make_layer(0, states=3, inputs=1, outputs=1)
    modes = permuted(modes, torch.tensor([0, 0, 0]))
    values = LAST()([modes]).values[modes.layer]
    torch.testing.assert_close(values, torch.tensor([1, 1 / 2, 1 / 3], dtype=torch.float64))


def test_magnitude_by_hand():
    modes = make_layer(0, states=1, inputs=2, outputs=2)
    modes = dataclasses.replace(
        modes,
        A_bar=torch.tensor([0.5j], dtype=torch.complex128),
        B_bar=torch.tensor([[3.0, 4.0j]], dtype=torch.complex128),
        C=torch.tensor([[1.0j, 0.0]], dtype=torch.complex128),
        C_back=torch.tensor([[0.0, -3.0]], dtype=torch.complex128),
    )
    assert Magnitude()([modes]).values[modes.layer].tolist() == [10.0]
    assert Magnitude(weigh_by_radius=True)([modes]).values[modes.layer].tolist() == [5.0]


def test_lamp_divides_squares_by_squares_at_least_as_large():
    modes = make_layer(4, states=6)
    m = Magnitude()([modes]).values[modes.layer]
    values = LAMP()([modes]).values[modes.layer]
    for i in range(6):
        expected = m[i] ** 2 / (m[m >= m[i]] ** 2).sum()
        torch.testing.assert_close(values[i], expected, rtol=1e-12, atol=0)


def test_hinf_pools():
    layers = [make_layer(0), make_layer(1)]
    uniform, overall = Hinf(pool="layer")(layers), Hinf(pool="model")(layers)
    assert (uniform.pool, overall.pool) == ("layer", "model")
    torch.testing.assert_close(uniform.values, overall.values)


def test_random_is_fixed_by_seed_and_layer():
    layers = [make_layer(0), make_layer(1)]
    first, again, other = (Random(seed=s)(layers).values for s in (1, 1, 2))
    assert torch.equal(first["layers.0"], again["layers.0"])
    assert not torch.equal(first["layers.0"], other["layers.0"])
    assert not torch.equal(first["layers.0"], first["layers.1"])
    assert torch.equal(Random(seed=1)(layers[1:]).values["layers.1"], first["layers.1"])


@pytest.mark.parametrize("seed", [-1, True])
def test_random_refuses_a_bad_seed(seed):
    with pytest.raises(InputError, match="seed"):
        check_again_with(Random(), seed=seed)


@pytest.mark.parametrize("cls", [Hinf, Magnitude, Random])
def test_pool_is_checked(cls):
    with pytest.raises(InputError, match="'model', 'layer'"):
        check_again_with(cls(), pool="channel")


NAMES = {
    "last": (LAST(), "LAST"),
    "aire": (AIRE(), "AIRE"),
    "hinf-uniform": (Hinf(pool="layer"), "Uniform H∞"),
    "hinf-global": (Hinf(pool="model"), "Global H∞"),
    "magnitude-uniform": (Magnitude(pool="layer"), "Uniform magnitude"),
    "magnitude-global": (Magnitude(pool="model"), "Global magnitude"),
    "lamp": (LAMP(), "LAMP"),
    "random": (Random(), "Random"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_and_labels(name):
    criterion, label = NAMES[name]
    assert by_name(name) == criterion
    assert by_name(f" {name.upper().replace('-', '_')}") == criterion
    assert criterion.label == label


def test_labels_tell_settings_apart():
    labels = [criterion.label for criterion in EVERY]
    assert len(set(labels)) == len(labels)
    assert LAST(variant="released").label == "LAST (released)"


def test_unknown_name_lists_all_and_suggests():
    with pytest.raises(InputError) as caught:
        by_name("hinf-globl")
    assert all(name in str(caught.value) for name in NAMES)
    assert "did you mean 'hinf-global'?" in str(caught.value)
    with pytest.raises(InputError, match="choose one of these"):
        by_name("zzz")
