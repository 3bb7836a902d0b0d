"""What was removed carries: held against outputs written out, and against what decided the cut."""

import pytest
import torch

from helpers.models import Kind, make_input, make_model, random_mask
from helpers.tiny_mamba import tiny
from ssmith.calibrate import measure_moments
from ssmith.core.layers import STATE
from ssmith.core.plan import Cut, Plan
from ssmith.core.selective import ENTRY
from ssmith.core.sequences import Sequences
from ssmith.criteria import StateOBS
from ssmith.criteria.selective import GramGreedy
from ssmith.families import find_layers, modes_of
from ssmith.families.mamba.selective import SelectiveLayer
from ssmith.families.registry import find_selective
from ssmith.watch.removed import Removed, refit_cost, removed_by, removed_energy


@pytest.mark.parametrize("kind", [Kind("s5"), Kind("s5", True), Kind("s4d")], ids=str)
def test_removed_states_carry_what_the_output_lacks_without_them(kind):
    model = make_model(kind)
    name, layer = next(iter(find_layers(model).items()))
    keep = random_mask(layer.grid(), seed=3)
    u = torch.randn(5, 9, layer.width, dtype=torch.float64)
    valid = torch.arange(9) < torch.tensor([9, 4, 7, 9, 1])[:, None]
    u = u * valid[..., None]
    gone, whole = removed_energy(Removed(site=name, state=keep), layer, u, valid)[""]
    D = layer.get_parameter("D").detach()
    full = layer(u, valid.sum(1)) - D * u
    layer.mask_(keep)
    left = layer(u, valid.sum(1)) - D * u
    on = valid[..., None]
    torch.testing.assert_close(whole, ((full * on) ** 2).sum((1, 2)).detach())
    torch.testing.assert_close(gone, (((full - left) * on) ** 2).sum((1, 2)).detach())


def mixer_of(model):
    name = next(iter(find_selective(model)))
    return name, model.get_submodule(name)


@pytest.fixture
def mamba():
    torch.manual_seed(0)
    return tiny("mamba", dtype=torch.float64)


def test_removed_columns_carry_the_form_that_gram_greedy_adds_up(mamba):
    name, mixer = mixer_of(mamba)
    view = SelectiveLayer.of(name, mixer)
    u = torch.randn(3, 12, mamba.config.hidden_size, dtype=torch.float64)
    keep = torch.arange(view.n) % 3 > 0
    gone, _ = removed_energy(Removed(site=name, state=keep), mixer, u, None)[""]
    with torch.no_grad():
        gram = GramGreedy().columns.gather(view.parts(u).scan, view.weights(), 0)["gram"]
    torch.testing.assert_close(gone.sum(), gram[~keep][:, ~keep].sum(), rtol=1e-9, atol=1e-12)


def test_removed_entries_carry_the_form_that_gram_greedy_adds_up(mamba):
    name, mixer = mixer_of(mamba)
    view = SelectiveLayer.of(name, mixer)
    u = torch.randn(3, 12, mamba.config.hidden_size, dtype=torch.float64)
    keep = random_mask((view.e, view.n), seed=1)
    removed = Removed(site=name, entry=keep, semantics="memoryless")
    gone, _ = removed_energy(removed, mixer, u, None)[""]
    with torch.no_grad():
        gram = GramGreedy().entries.gather(view.parts(u).scan, view.weights(), 0)["gram"]
    off = (~keep).double()
    wanted = torch.einsum("enk,en,ek,e->", gram, off, off, view.weights().out_energy)
    torch.testing.assert_close(gone.sum(), wanted, rtol=1e-9, atol=1e-12)


def test_removed_weights_carry_a_trace_with_the_moments_of_their_inputs(mamba):
    name, mixer = mixer_of(mamba)
    u = torch.randn(2, 8, mamba.config.hidden_size, dtype=torch.float64)
    weight = mixer.in_proj.weight.detach()
    keep = random_mask(tuple(weight.shape), seed=2)
    gone, whole = removed_energy(Removed(site=name, weights={"in_proj": keep}), mixer, u, None)[
        "in_proj"
    ]
    rows = u.flatten(0, 1)
    H = rows.T @ rows
    cut = weight * ~keep
    torch.testing.assert_close(gone.sum(), torch.trace(cut @ H @ cut.T))
    torch.testing.assert_close(whole.sum(), torch.trace(weight @ H @ weight.T))


@pytest.mark.parametrize("kind", [Kind("s5"), Kind("s4d")], ids=str)
def test_a_refit_leaves_what_state_obs_adds_up_along_its_order(kind):
    model = make_model(kind)
    x = make_input(model, batch=12, length=30)
    y = torch.zeros(len(x), dtype=torch.int64)
    rows = Sequences(x=x.float(), lengths=torch.full((len(x),), 30), y=y)
    moments = measure_moments(model, rows)
    modes = modes_of(model)
    scores = StateOBS(share="cumulative")(modes, moments).values
    for item in modes:
        score = scores[item.layer].reshape(-1)
        order = score.argsort()
        # All states of a SISO layer's channel count on their own; the first ones of all go.
        keep = torch.ones_like(score, dtype=torch.bool)
        keep[order[: len(order) // 2]] = False
        cost = refit_cost(item, moments[item.layer], keep)
        if item.channel is None:
            assert cost == pytest.approx(float(score[~keep].max()), rel=1e-5)
        assert refit_cost(item, moments[item.layer], torch.ones_like(keep)) < 1e-12
        assert 0 < cost < 1


def test_cuts_after_one_another_are_read_in_the_grid_of_the_dense_model(mamba):
    name, mixer = mixer_of(mamba)
    e, n = mixer.A_log.shape
    state = torch.arange(n) % 2 == 0
    entry = random_mask((e, int(state.sum())), seed=4)
    plan = Plan(
        cuts=(
            Cut(unit=STATE, keep={name: state}),
            Cut(unit=ENTRY, keep={name: entry}, semantics="memoryless"),
        ),
        model_digest="",
    )
    found, left = removed_by(plan, mamba)
    assert not left
    assert torch.equal(found[name].state, state)
    assert torch.equal(found[name].entry[:, state], entry)
    assert bool(found[name].entry[:, ~state].all())


def test_what_has_no_statistic_is_said_by_name(mamba):
    name = mixer_of(mamba)[0]
    plan = Plan(
        cuts=(
            Cut(unit="channel", keep={name: torch.ones(4).bool()}),
            Cut(unit="weight", keep={f"{name}.conv1d.weight": torch.ones(4).bool()}),
            Cut(unit=STATE, keep={"elsewhere": torch.ones(4).bool()}),
        ),
        model_digest="",
    )
    found, left = removed_by(plan, mamba)
    assert not found
    assert "channel" in left[name]
    assert "conv1d" in left[f"{name}.conv1d.weight"]
    assert "no layer elsewhere" in left["elsewhere"]
