"""State-OBS against brute force: explicit data, every removal tried, every fit done anew."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from criteria.layers import check_again_with, make_layer
from helpers.models import KINDS, make_model
from helpers.parts import make_part
from helpers.regression import features, residual, weights
from helpers.tapped import tapped
from ssmith.calibrate import measure_moments, white_moments
from ssmith.core.errors import InputError, NumericalError
from ssmith.core.layout import Layout
from ssmith.criteria import AIRE, StateOBS, by_name
from ssmith.criteria.elimination import REFRESH, eliminate
from ssmith.families import find_layers, modes_of

TINY = 1e-12


def random_system(seed, groups, places, parts, outputs, steps=200):
    """Data rows per group, with correlated features, and true weights."""
    draw = np.random.default_rng(seed)
    mix = draw.normal(size=(groups, places * parts, places * parts))
    z = draw.normal(size=(groups, steps, places * parts)) @ mix
    return z, draw.normal(size=(groups, places * parts, outputs))


def brute_force(z, w, parts, removable):
    """Greedy removal of one group with a fresh least-squares fit for every candidate."""
    y, left, order, costs = z @ w, list(range(z.shape[1] // parts)), [], []
    error = 0.0

    def without(state):
        cols = [i * parts + k for i in left if i != state for k in range(parts)]
        return residual(z[:, cols], y) / len(z)

    while set(left) & removable:
        tried = {state: without(state) for state in left if state in removable}
        best = min(tried, key=tried.__getitem__)
        order.append(best)
        costs.append(tried[best] - error)
        error = tried[best]
        left.remove(best)
    return order, costs


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    groups=st.integers(1, 3),
    places=st.integers(1, 6),
    parts=st.sampled_from([2, 4]),
    outputs=st.integers(1, 3),
)
def test_greedy_is_brute_force(seed, groups, places, parts, outputs):
    z, w = random_system(seed, groups, places, parts, outputs)
    gram = torch.from_numpy(np.einsum("gtf,gte->gfe", z, z) / z.shape[1])
    draw = torch.Generator().manual_seed(seed)
    removable = torch.rand(groups, places, generator=draw) < 0.8
    found = eliminate(
        gram,
        torch.from_numpy(w),
        present=torch.ones(groups, places, dtype=torch.bool),
        removable=removable,
    )
    for group in range(groups):
        may = set(removable[group].nonzero().flatten().tolist())
        order, costs = brute_force(z[group], w[group], parts, may)
        assert found.order[group].tolist() == order + [-1] * (places - len(order))
        total = float((z[group] @ w[group] ** 1).var() + 1)
        np.testing.assert_allclose(
            found.cost[group, : len(order)], costs, rtol=1e-7, atol=1e-9 * total
        )


def test_updates_do_not_drift():
    """Between refreshes the downdated inverse prices as a fresh one would."""
    places = 3 * REFRESH
    z, w = random_system(3, 1, places, 2, 2, steps=400)
    gram = torch.from_numpy(np.einsum("gtf,gte->gfe", z, z) / z.shape[1])
    everything = torch.ones(1, places, dtype=torch.bool)
    found = eliminate(gram, torch.from_numpy(w), present=everything, removable=everything)
    y, gone, error = z[0] @ w[0], set(), 0.0
    for state, cost in zip(found.order[0].tolist(), found.cost[0].tolist(), strict=True):
        gone.add(state)
        cols = [i * 2 + k for i in range(places) if i not in gone for k in range(2)]
        now = residual(z[0][:, cols], y) / len(y)
        assert cost == pytest.approx(now - error, rel=1e-6, abs=1e-9)
        error = now
    assert error == pytest.approx(float((y**2).sum()) / len(y))


def test_a_singular_second_moment_is_an_error():
    gram = torch.ones(1, 4, 4, dtype=torch.float64)
    yes = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(NumericalError, match="not positive definite"):
        eliminate(gram, torch.ones(1, 4, 1, dtype=torch.float64), present=yes, removable=yes)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.conj_sym], ids=str)
def test_scores_on_sequences_are_brute_force(kind):
    model = make_model(kind, layers=1)
    part = make_part(model, (12, 7, 12, 3))
    ((name, layer),) = find_layers(model).items()
    with tapped(model) as tap, torch.no_grad():
        model(part.x.double(), part.lengths)
    z = np.concatenate(
        [features(layer, tap[name][0][i], n) for i, n in enumerate(part.lengths.tolist())]
    )
    scores = StateOBS(ridge=TINY)(modes_of(model), measure_moments(model, part))
    values = scores.values[name].flatten()
    w = weights(layer)
    energy = float((np.einsum("tsk,skm->tm", z, w) ** 2).sum()) / len(z)
    groups = [range(layer.n_states)]
    if layer.family == "s4d":
        owner = layer.channel.tolist()
        groups = [[i for i, c in enumerate(owner) if c == m] for m in sorted(set(owner))]
    for states in groups:
        rows = z[:, list(states)].reshape(len(z), -1)
        own = w[list(states)].reshape(rows.shape[1], -1)
        order, costs = brute_force(rows, own, w.shape[1], set(range(len(states))))
        got = values[list(states)]
        assert got.argsort().tolist() == order
        expected = np.maximum.accumulate(costs) / energy
        np.testing.assert_allclose(got[order], expected, rtol=1e-4, atol=1e-9)


def test_uncorrelated_states_rank_as_aire_does():
    modes = make_layer(3, states=12)
    moments = white_moments(modes)
    energy = moments.gram[0].diagonal().view(-1, 2).sum(-1)
    # No state tells anything about another, and both parts of each are alike.
    gram = torch.diag_embed(energy.repeat_interleave(2) / 2).unsqueeze(0)
    plain = dataclasses.replace(moments, gram=gram)
    ours = StateOBS()([modes], {modes.layer: plain}).values[modes.layer]
    theirs = AIRE()([modes]).values[modes.layer]
    assert ours.argsort().tolist() == theirs.argsort().tolist()


@pytest.mark.parametrize("share", ["marginal", "cumulative"])
def test_scores_rise_strictly_even_when_costs_are_equal(share):
    modes = make_layer(1, states=4)
    same = dataclasses.replace(modes, **{
        name: getattr(modes, name)[[0, 0, 0, 0]] for name in ("A_bar", "B_bar", "C")
    })  # fmt: skip
    values = StateOBS(share=share)([same], {same.layer: white_moments(same)}).values[same.layer]
    assert len(set(values.tolist())) == 4


def test_cumulative_scores_end_at_the_whole_energy():
    modes = make_layer(4, two_way=True)
    white = {modes.layer: white_moments(modes)}
    values = StateOBS(share="cumulative")([modes], white).values[modes.layer]
    assert float(values.max()) == pytest.approx(1.0, rel=1e-6)
    marginal = StateOBS()([modes], white).values[modes.layer]
    assert values.argsort().tolist() == marginal.argsort().tolist()


@given(seed=st.integers(0, 500), two_way=st.booleans(), channels=st.sampled_from([None, 3]))
def test_permuting_states_permutes_scores(seed, two_way, channels):
    modes = make_layer(seed, states=5, two_way=two_way, channels=channels)
    order = torch.randperm(modes.count, generator=torch.Generator().manual_seed(seed))
    flat = dataclasses.replace(modes, grid=(modes.count,))
    other = dataclasses.replace(
        flat,
        **{
            name: None if getattr(flat, name) is None else getattr(flat, name)[order]
            for name in ("A_bar", "B_bar", "C", "C_back", "channel", "present")
        },
    )
    first = StateOBS()([flat], {flat.layer: white_moments(flat)}).values[flat.layer]
    second = StateOBS()([other], {other.layer: white_moments(other)}).values[other.layer]
    torch.testing.assert_close(second, first[order], rtol=1e-5, atol=1e-12)


@given(seed=st.integers(0, 500), factor=st.sampled_from([1e-6, 0.3, 1e5]))
def test_scaling_a_layer_changes_no_score(seed, factor):
    modes = make_layer(seed)
    louder = dataclasses.replace(modes, B_bar=modes.B_bar * factor, C=modes.C * factor)
    first = StateOBS()([modes], {modes.layer: white_moments(modes)}).values[modes.layer]
    second = StateOBS()([louder], {modes.layer: white_moments(louder)}).values[modes.layer]
    torch.testing.assert_close(second, first, rtol=1e-6, atol=1e-12)


def test_masked_states_are_absent_and_unstable_ones_protected():
    modes = make_layer(2)
    modes.present[1] = False
    modes.A_bar[4] = 1.0
    stable = dataclasses.replace(modes, A_bar=modes.A_bar.clone())
    stable.A_bar[4] = 0.9
    scores = StateOBS()([modes], {modes.layer: white_moments(stable)})
    assert scores.absent[modes.layer].nonzero().flatten().tolist() == [1]
    assert scores.protected[modes.layer].nonzero().flatten().tolist() == [4]
    assert scores.values[modes.layer][[1, 4]].tolist() == [0.0, 0.0]
    assert bool((scores.values[modes.layer][[0, 2, 3, 5, 6, 7]] > 0).all())
    assert [finding.kind for finding in scores.findings] == ["unstable"]


def test_a_silent_layer_scores_zero_and_says_so():
    modes = make_layer(2, scale=0.0)
    scores = StateOBS()([modes], {modes.layer: white_moments(modes)})
    assert not scores.values[modes.layer].any()
    assert [finding.kind for finding in scores.findings] == ["silent"]


def test_a_layer_without_states():
    modes = make_layer(0, states=0)
    scores = StateOBS()([modes], {modes.layer: white_moments(modes)})
    assert scores.values[modes.layer].shape == (0,)


def test_it_says_what_it_lacks():
    modes = make_layer(0)
    for stats in (None, {}, {modes.layer: 3}):
        with pytest.raises(InputError, match=r"no moments of layer layers\.0.*white noise"):
            StateOBS()([modes], stats)
    other = white_moments(make_layer(0, states=3))
    with pytest.raises(InputError, match=r"layers\.0: moments of shape"):
        StateOBS()([modes], {modes.layer: other})
    assert StateOBS().needs == ("moments",)
    assert StateOBS(weigh="sensitivity").needs == ("moments", "sensitivity")
    assert by_name("state-obs") == StateOBS(weigh="sensitivity")


@pytest.mark.parametrize(
    ("setting", "value"),
    [("ridge", 0.0), ("ridge", float("nan")), ("share", "both"), ("weigh", "")],
)
def test_bad_settings_are_named(setting, value):
    with pytest.raises(InputError, match=setting):
        check_again_with(StateOBS(), **{setting: value})


def with_slopes(moments, seed=0, scale=1.0):
    """The same moments with a random sensitivity."""
    g, _, o = moments.error.shape
    draw = torch.Generator().manual_seed(seed)
    root = scale * torch.randn(g, o, o, generator=draw, dtype=torch.float64)
    return dataclasses.replace(moments, sensitivity=root @ root.mT)


@pytest.mark.parametrize("channels", [None, 3])
def test_sensitivity_weighs_the_error_of_every_output(channels):
    modes = make_layer(1, states=4, channels=channels)
    moments = with_slopes(white_moments(modes))
    criterion = StateOBS(weigh="sensitivity", share="cumulative", ridge=TINY)
    values = criterion([modes], {modes.layer: moments}).values[modes.layer]
    weight = Layout.of(modes).weight(modes.C, modes.C_back)
    for group, scores in enumerate(values.reshape(len(weight), -1)):
        # Rows of data with the Gramian as their second moment, one column per weighted output.
        z = np.linalg.cholesky(moments.gram[group].numpy()).T * math.sqrt(len(moments.gram[group]))
        root = np.linalg.cholesky(moments.sensitivity[group].numpy() + 1e-15)
        order, costs = brute_force(z, weight[group].numpy() @ root, 2, set(range(4)))
        assert scores.argsort().tolist() == order
        np.testing.assert_allclose(scores[order], np.cumsum(costs), rtol=1e-3)


def test_a_layer_the_model_heeds_more_scores_higher():
    modes = make_layer(1)
    white = white_moments(modes)
    low, high = (
        StateOBS(weigh="sensitivity")([modes], {modes.layer: with_slopes(white, scale=scale)})
        for scale in (1.0, 2.0)
    )
    torch.testing.assert_close(4 * low.values[modes.layer], high.values[modes.layer])


def test_sensitivity_must_have_been_measured():
    modes = make_layer(1)
    with pytest.raises(InputError, match=r"layer layers\.1 hold no sensitivity"):
        StateOBS(weigh="sensitivity")([modes], {modes.layer: white_moments(modes)})
