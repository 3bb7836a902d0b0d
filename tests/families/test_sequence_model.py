"""The sequence model: padding, pooling, heads, and three ways to run it."""

import pytest
import torch

from helpers.models import FAMILIES, KINDS, ONE_WAY, Kind, make_input, make_model, random_series
from helpers.tolerances import assert_close
from helpers.unchecked import unchecked
from ssmith.core.errors import DataError, UnsupportedError
from ssmith.families import SequenceModel, sites

POOLINGS = ["mean", "last"]
INPUTS = [{}, {"vocabulary": 7}]
LENGTHS = [11, 4, 1, 0]


@torch.no_grad()
def run(model, x, lengths=None):
    return model(x, lengths)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("given", INPUTS, ids=["series", "tokens"])
def test_a_padded_batch_is_each_sequence_alone(kind, pooling, given):
    model = make_model(kind, pooling=pooling, **given)
    x = make_input(model)
    together = run(model, x, torch.tensor(LENGTHS))
    for row, length in enumerate(LENGTHS):
        alone = run(model, x[row : row + 1, :length])
        assert_close("padding", together[row : row + 1], alone)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("garbage", [1e6, float("nan"), float("inf")])
def test_what_stands_in_the_padding_does_not_matter(kind, pooling, garbage):
    model = make_model(kind, pooling=pooling)
    x = make_input(model)
    lengths = torch.tensor(LENGTHS)
    dirty = x.clone()
    for row, length in zip(dirty, LENGTHS, strict=True):
        row[length:] = garbage
    assert torch.equal(run(model, dirty, lengths), run(model, x, lengths))
    if not kind.bidirectional:
        answers = [model.scan(item, model.initial_state(4), lengths)[0] for item in (dirty, x)]
        assert torch.equal(*answers)


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_garbage_in_the_padding_does_not_reach_a_gradient(kind):
    model = make_model(kind)
    x = make_input(model)
    x[1, 4:] = float("nan")
    model(x, torch.tensor([11, 4, 11, 11])).sum().backward()
    for name, item in model.named_parameters():
        assert bool(torch.isfinite(item.grad).all()), name


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
@pytest.mark.parametrize("token", [-1, 7, 10**6])
def test_any_token_may_stand_in_the_padding(kind, token):
    model = make_model(kind, vocabulary=7)
    x = make_input(model)
    dirty = x.clone()
    dirty[1, 4:] = token
    lengths = torch.tensor([11, 4, 11, 11])
    assert torch.equal(run(model, dirty, lengths), run(model, x, lengths))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_more_padding_changes_nothing(kind, pooling):
    model = make_model(kind, pooling=pooling)
    x = make_input(model)
    lengths = torch.tensor([11, 4, 1, 5])
    more = torch.cat([x, random_series(4, 9, 2)], dim=1)
    assert_close("padding", run(model, more, lengths), run(model, x, lengths))


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("shape", [(3, 0, 2), (3, 5, 2)])
def test_sequences_without_a_step_have_a_finite_answer(kind, pooling, shape):
    model = make_model(kind, pooling=pooling)
    none = torch.zeros(3, dtype=torch.int64)
    answer = run(model, random_series(*shape), none)
    # Nothing was seen: the head reads a norm's answer to zero.
    expected = model.head(model.norm(torch.zeros(3, 3, dtype=torch.float64))).detach()
    assert torch.equal(answer, expected)
    answer, state = model.scan(random_series(*shape), model.initial_state(3), none)
    assert torch.equal(answer.detach(), expected)
    assert torch.equal(state.count, none)


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
@pytest.mark.parametrize(
    ("settings", "outputs"),
    [
        ({"task": "classification", "outputs": 5}, 5),
        ({"task": "regression", "outputs": 1}, 1),
        ({"task": "forecast", "outputs": 6}, 6),
    ],
    ids=["classification", "regression", "forecast"],
)
@pytest.mark.parametrize("activation", ["gelu", "half_glu", "full_glu"])
def test_every_head_and_activation(kind, settings, outputs, activation):
    model = make_model(kind, activation=activation, **settings)
    answer = run(model, make_input(model))
    assert answer.shape == (4, outputs)
    assert bool(torch.isfinite(answer).all())


@pytest.mark.parametrize("kind", ONE_WAY, ids=str)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("given", INPUTS, ids=["series", "tokens"])
@torch.no_grad()
def test_steps_and_chunks_are_the_whole(kind, pooling, given):
    model = make_model(kind, pooling=pooling, **given)
    x = make_input(model)
    whole = model(x)
    answer, last = model.scan(x, model.initial_state(4))
    assert_close("paths", answer, whole)
    for chunk in (1, 3):
        state = model.initial_state(4)
        for piece in x.split(chunk, dim=1):
            answer, state = model.scan(piece, state)
        assert_close("paths", answer, whole)
        for got, expected in zip(state.layers, last.layers, strict=True):
            assert_close("paths", got, expected)
    state = model.initial_state(4)
    for t in range(x.shape[1]):
        answer, state = model.step(x[:, t], state)
        assert_close("paths", answer, model(x[:, : t + 1]))
    assert torch.equal(state.count, last.count)


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
@pytest.mark.parametrize("pooling", POOLINGS)
@torch.no_grad()
def test_chunks_of_unequal_sequences(kind, pooling):
    model = make_model(kind, pooling=pooling)
    x, lengths = make_input(model), torch.tensor(LENGTHS)
    state = model.initial_state(4)
    for start in range(0, 11, 4):
        piece = x[:, start : start + 4]
        answer, state = model.scan(piece, state, (lengths - start).clamp(0, piece.shape[1]))
    assert_close("paths", answer, model(x, lengths))
    assert torch.equal(state.count, lengths)


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_the_state_is_not_changed_by_running(kind):
    model = make_model(kind)
    x = make_input(model)
    start = model.initial_state(4)
    with torch.no_grad():
        _, state = model.scan(x, start)
        before = [item.clone() for item in state.layers]
        model.step(x[:, 0], state)
        model.scan(x, state)
    for item, old in zip(state.layers, before, strict=True):
        assert torch.equal(item, old)
    assert not any(bool(item.any()) for item in start.layers)


def test_a_model_that_needs_the_future_has_no_steps():
    model = make_model(Kind("s5", bidirectional=True))
    x = make_input(model)
    with pytest.raises(UnsupportedError, match="bidirectional"):
        model.step(x[:, 0], model.initial_state(4))
    with pytest.raises(UnsupportedError, match="bidirectional"):
        model.scan(x, model.initial_state(4))


@pytest.mark.parametrize(
    ("settings", "x"),
    [
        ({}, torch.zeros(2, 5, 3)),
        ({}, torch.zeros(2, 5)),
        ({"vocabulary": 7}, torch.zeros(2, 5)),
        ({"vocabulary": 7}, torch.zeros(2, 5, 1, dtype=torch.int64)),
    ],
    ids=["channels", "axes", "real tokens", "token axes"],
)
def test_an_input_of_the_wrong_shape_is_named(settings, x):
    model = make_model(Kind("s5"), dtype=torch.float32, **settings)
    with pytest.raises(DataError, match=r"input of shape \(2, 5"):
        unchecked(SequenceModel.forward)(model, x)
    with pytest.raises(DataError, match=r"input of shape \(2, 5"):
        unchecked(SequenceModel.scan)(model, x, model.initial_state(2))


@pytest.mark.parametrize(
    ("settings", "x"),
    [({}, torch.zeros(2, 3)), ({}, torch.zeros(2, 1, 2)), ({"vocabulary": 7}, torch.zeros(2))],
    ids=["channels", "axes", "real tokens"],
)
def test_a_step_of_the_wrong_shape_is_named(settings, x):
    model = make_model(Kind("s5"), dtype=torch.float32, **settings)
    with pytest.raises(DataError, match=r"input of shape \(2"):
        unchecked(SequenceModel.step)(model, x, model.initial_state(2))


@pytest.mark.parametrize("lengths", [[5], [5, 5, 5], [6, 1], [-1, 5]], ids=str)
def test_lengths_that_do_not_fit_the_input_are_named(lengths):
    model = make_model(Kind("s5"), dtype=torch.float32)
    x = torch.zeros(2, 5, 2)
    for method, state in ((SequenceModel.forward, []), (SequenceModel.scan, [2])):
        states = [model.initial_state(batch) for batch in state]
        with pytest.raises(DataError, match="lengths"):
            unchecked(method)(model, x, *states, torch.tensor(lengths))


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_the_same_seed_is_the_same_model(kind):
    first, second = make_model(kind, seed=3), make_model(kind, seed=3)
    other = make_model(kind, seed=4)
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    D = "blocks.0.ssm.D"
    assert not torch.equal(first.get_parameter(D), other.get_parameter(D))


@pytest.mark.parametrize("kind", FAMILIES, ids=str)
def test_dropout_acts_in_training_only(kind):
    model = make_model(kind, dropout=0.5)
    x = make_input(model)
    assert torch.equal(run(model, x), run(model, x))
    model.train()
    assert not torch.equal(run(model, x), run(model, x))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_configuration_describes_the_model(kind):
    model = make_model(kind)
    assert model.current_config() == model.config
    again = SequenceModel(model.current_config()).double()
    shapes = {name: item.shape for name, item in model.state_dict().items()}
    assert {name: item.shape for name, item in again.state_dict().items()} == shapes


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_layer_without_states_learns_what_is_left_of_it(kind):
    model = make_model(kind)
    for site in sites(model).values():
        site.cut_(site.coupling("state"), torch.zeros(site.module.grid(), dtype=torch.bool))
    model(make_input(model)).square().sum().backward()
    assert all(block.ssm.D.grad.abs().sum() > 0 for block in model.blocks)
