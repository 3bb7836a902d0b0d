"""Laws of cutting that hold for every kind of layer, in every way to run it."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models import KINDS, ONE_WAY, make_input, make_model, random_mask
from helpers.orders import permute_
from helpers.plans import plan_for, random_plan
from helpers.tolerances import assert_close
from ssmith.families import find_layers
from ssmith.surgery import prune_

kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 10_000)


def cut(model, plan, mode):
    other = copy.deepcopy(model)
    prune_(other, plan, mode)
    return other


@torch.no_grad()
def answers(model, x):
    """Every answer a model gives: whole, by steps and in chunks where it can."""
    found = [model(x), model(x, torch.tensor([x.shape[1], 4, 1, 0]))]
    if model.config.options.bidirectional:
        return found
    state = model.initial_state(len(x))
    for t in range(x.shape[1]):
        answer, state = model.step(x[:, t], state)
        found.append(answer)
    state = model.initial_state(len(x))
    for piece in x.split(4, dim=1):
        answer, state = model.scan(piece, state)
        found.append(answer)
    return found


def assert_same(first, second, x):
    for got, expected in zip(answers(first, x), answers(second, x), strict=True):
        assert_close("surgery", got, expected)


@given(kind=kinds, seed=seeds, share=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
@settings(max_examples=40)
def test_shrunk_is_masked(kind, seed, share):
    model = make_model(kind, seed=seed)
    plan = random_plan(model, seed=seed, keep=share)
    x = make_input(model, length=7)
    assert_same(cut(model, plan, "shrink"), cut(model, plan, "mask"), x)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_shrunk_is_masked_in_float32(kind):
    model = make_model(kind, dtype=torch.float32)
    plan = random_plan(model, seed=2)
    assert_same(cut(model, plan, "shrink"), cut(model, plan, "mask"), make_input(model))


@given(kind=kinds, seed=seeds)
def test_keeping_everything_changes_nothing_at_all(kind, seed):
    model = make_model(kind, seed=seed)
    plan = random_plan(model, keep=1.1)
    x = make_input(model, length=7)
    for mode in ("mask", "shrink"):
        for got, expected in zip(
            answers(cut(model, plan, mode), x), answers(model, x), strict=True
        ):
            assert torch.equal(got, expected)


@given(kind=kinds, seed=seeds)
def test_the_order_of_states_does_not_matter(kind, seed):
    model = make_model(kind, seed=seed)
    other = copy.deepcopy(model)
    for layer in find_layers(other).values():
        permute_(layer, seed)
    assert_same(other, model, make_input(model, length=7))


@given(kind=kinds, seed=seeds, first=st.sampled_from(["mask", "shrink"]))
def test_twice_is_once_with_both_masks(kind, seed, first):
    model = make_model(kind, seed=seed)
    one = random_plan(model, seed=seed, keep=0.7)
    both = {
        name: mask & random_mask(mask.shape, seed=seed + 1)
        for name, mask in one.cuts[0].keep.items()
    }
    once = cut(model, plan_for(model, both), "shrink")
    twice = cut(model, one, first)
    rest = {}
    for name, layer in find_layers(twice).items():
        # After a shrink the second plan speaks of the states that are left.
        left = both[name].reshape(-1)
        left = left[one.cuts[0].keep[name].reshape(-1)] if first == "shrink" else left
        rest[name] = left.reshape(layer.grid())
    prune_(twice, plan_for(twice, rest), "shrink")
    assert [info.grid() for info in find_layers(twice).values()] == [
        info.grid() for info in find_layers(once).values()
    ]
    for name, item in once.state_dict().items():
        assert torch.equal(item, twice.state_dict()[name]), name


@given(kind=kinds, seed=seeds)
def test_a_mask_then_a_shrink_of_nothing_keeps_the_mask(kind, seed):
    model = make_model(kind, seed=seed)
    masked = cut(model, random_plan(model, seed=seed), "mask")
    again = cut(masked, random_plan(masked, keep=1.1), "shrink")
    x = make_input(model, length=7)
    for got, expected in zip(answers(again, x), answers(masked, x), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("mode", ["mask", "shrink"])
def test_without_any_state_the_skip_path_is_left(kind, mode):
    model = make_model(kind)
    empty = cut(model, random_plan(model, keep=0.0), mode)
    u = torch.randn(2, 5, 3, dtype=torch.float64)
    for layer in find_layers(empty).values():
        with torch.no_grad():
            assert torch.equal(layer(u), layer.get_parameter("D") * u)
    x = make_input(model)
    assert all(bool(torch.isfinite(answer).all()) for answer in answers(empty, x))
    if mode == "shrink":
        assert all(layer.n_states == 0 for layer in find_layers(empty).values())


@pytest.mark.parametrize("kind", ONE_WAY, ids=str)
def test_a_masked_state_keeps_no_memory(kind):
    """Whatever is carried in at a masked entry never comes out again."""
    model = make_model(kind)
    plan = random_plan(model, seed=3)
    masked = cut(model, plan, "mask")
    x = make_input(model)
    for name, layer in find_layers(masked).items():
        u = torch.randn(2, 5, 3, dtype=torch.float64)
        state = layer.initial_state(2)
        state[:, ~plan.cuts[0].keep[name].reshape(-1)] = 1e3
        with torch.no_grad():
            assert_close("surgery", layer.scan(u, state)[0], layer(u))
            assert_close("surgery", layer.step(u[:, 0], state)[0], layer(u)[:, 0])
    assert bool(torch.isfinite(answers(masked, x)[0]).all())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_masked_states_get_no_gradient(kind):
    model = make_model(kind)
    plan = random_plan(model, seed=3)
    masked, shrunk = cut(model, plan, "mask"), cut(model, plan, "shrink")
    x = make_input(model)
    for other in (masked, shrunk):
        other(x).square().sum().backward()
    for name, layer in find_layers(masked).items():
        small = find_layers(shrunk)[name]
        keep = plan.cuts[0].keep[name].reshape(-1)
        rows = layer.get_parameter("A_imag" if layer.family == "s4d" else "Lambda_im").grad
        assert not bool(rows.reshape(-1)[~keep].any())
        twin = small.get_parameter("A_imag" if layer.family == "s4d" else "Lambda_im").grad
        assert_close("twin gradient", rows.reshape(-1)[keep], twin.reshape(-1))
