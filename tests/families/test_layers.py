"""S5 and S4D layers against the recurrence their parameters define, in every combination."""

import pytest
import torch

from helpers import oracle
from helpers.models import KINDS, ONE_WAY, WIDTH, Kind, make_layer, random_mask, random_series
from helpers.tolerances import assert_close
from ssmith.core.errors import UnsupportedError

LENGTH = 17
OPTIONS = [
    {},
    {"step_rescale": 2.5},
    {"clip_eigs": True},
]


def by_oracle(layer, u, keep=None, state=None):
    starts = [None] * len(u) if state is None else state
    runs = [oracle.run(layer, row, keep=keep, state=x) for row, x in zip(u, starts, strict=True)]
    y = torch.stack([torch.from_numpy(y) for y, _ in runs])
    return y, torch.stack([torch.from_numpy(last) for _, last in runs])


def padded(lengths, *, seed=3):
    """Random inputs, zero after each sequence's end as the block above a layer leaves them."""
    u = random_series(len(lengths), max(lengths), WIDTH, seed=seed)
    for row, length in zip(u, lengths, strict=True):
        row[length:] = 0
    return u


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(options) or "plain")
def test_output_and_state_are_the_recurrences(kind, options):
    layer = make_layer(kind, **options)
    if options.get("clip_eigs"):
        unstable_(layer)
    u = random_series(2, LENGTH, WIDTH)
    expected, last = by_oracle(layer, u)
    with torch.no_grad():
        assert_close("oracle", layer(u), expected)
        y, state = layer.scan(u)
    assert_close("oracle", y, expected)
    assert_close("oracle", state, last)


def unstable_(layer):
    """Push some eigenvalues to where clipping changes them."""
    with torch.no_grad():
        if layer.family == "s5":
            layer.get_parameter("Lambda_re")[::2] = 0.3
        else:
            layer.get_parameter("log_A_real").view(-1)[::2] = -20.0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_padding_with_zeros_is_no_sequence(kind):
    layer = make_layer(kind)
    lengths = [LENGTH, 9, 1, 0]
    u = padded(lengths)
    with torch.no_grad():
        y, state = layer.scan(u, lengths=torch.tensor(lengths))
        forward = layer(u, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        expected, last = by_oracle(layer, u[row : row + 1, :length])
        assert_close("oracle", y[row : row + 1, :length], expected)
        assert_close("oracle", forward[row : row + 1, :length], expected)
        assert_close("oracle", state[row : row + 1], last)


@pytest.mark.parametrize("kind", ONE_WAY, ids=str)
@pytest.mark.parametrize("chunk", [1, 3, 13, LENGTH])
def test_chunks_with_a_carried_state_are_the_whole(kind, chunk):
    layer = make_layer(kind)
    u = random_series(2, LENGTH, WIDTH)
    with torch.no_grad():
        whole, last = layer.scan(u)
        parts, state = [], layer.initial_state(2)
        for piece in u.split(chunk, dim=1):
            y, state = layer.scan(piece, state)
            parts.append(y)
    assert_close("paths", torch.cat(parts, dim=1), whole)
    assert_close("paths", state, last)


@pytest.mark.parametrize("kind", ONE_WAY, ids=str)
def test_chunks_of_unequal_sequences(kind):
    layer = make_layer(kind)
    u = padded([LENGTH, 6, 0])
    lengths = torch.tensor([LENGTH, 6, 0])
    with torch.no_grad():
        _, last = layer.scan(u, lengths=lengths)
        state = layer.initial_state(3)
        for start in range(0, LENGTH, 4):
            piece = u[:, start : start + 4]
            here = (lengths - start).clamp(0, piece.shape[1])
            _, state = layer.scan(piece, state, here)
    assert_close("paths", state, last)


@pytest.mark.parametrize("kind", ONE_WAY, ids=str)
def test_steps_are_the_scan(kind):
    layer = make_layer(kind)
    u = random_series(2, LENGTH, WIDTH)
    with torch.no_grad():
        whole, last = layer.scan(u)
        outputs, state = [], layer.initial_state(2)
        for t in range(LENGTH):
            y, state = layer.step(u[:, t], state)
            outputs.append(y)
    assert_close("paths", torch.stack(outputs, dim=1), whole)
    assert_close("paths", state, last)


@pytest.mark.parametrize("kind", ONE_WAY, ids=str)
def test_a_step_into_memory_that_is_given_is_the_step(kind, monkeypatch):
    # Pieces of a row or two, and a last one that is shorter.
    monkeypatch.setattr("ssmith.families.s4d.layer._AT_ONCE", 40)
    layer = make_layer(kind)
    u = random_series(5, 2, WIDTH)
    before = layer.scan(u[:, :1])[1].detach()
    expected, last = layer.scan(u[:, 1:], before)
    kept, room = before.clone(), torch.full_like(before, torch.nan)
    with torch.no_grad():
        found, same = layer.step(u[:, 1], before, out=room)
    assert same.data_ptr() == room.data_ptr()
    assert_close("paths", found, expected[:, 0])
    assert_close("paths", room, last)
    assert torch.equal(before, kept)
    assert_close("paths", layer.step(u[:, 1], before)[0], expected[:, 0])


@pytest.mark.parametrize("kind", ONE_WAY, ids=str)
def test_a_start_state_is_the_recurrences(kind):
    layer = make_layer(kind)
    u = random_series(2, 5, WIDTH)
    start = torch.complex(*random_series(2, 2, layer.n_states, seed=8))
    expected, last = by_oracle(layer, u, state=start)
    with torch.no_grad():
        y, state = layer.scan(u, start)
    assert_close("oracle", y, expected)
    assert_close("oracle", state, last)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_masked_states_are_not_there(kind):
    layer = make_layer(kind)
    keep = random_mask(layer.grid(), seed=4)
    layer.mask_(keep)
    u = random_series(2, LENGTH, WIDTH)
    expected, last = by_oracle(layer, u, keep)
    with torch.no_grad():
        y, state = layer.scan(u)
    assert_close("oracle", y, expected)
    assert_close("oracle", state, last)


@pytest.mark.parametrize("kind", ONE_WAY, ids=str)
def test_an_empty_chunk_changes_nothing(kind):
    layer = make_layer(kind)
    start = torch.complex(*random_series(2, 2, layer.n_states, seed=8))
    empty = torch.zeros(2, 0, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        y, state = layer.scan(empty, start, torch.tensor([0, 0]))
        assert layer(empty).shape == (2, 0, WIDTH)
    assert y.shape == (2, 0, WIDTH)
    assert torch.equal(state, start)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.bidirectional], ids=str)
def test_a_layer_that_needs_the_future_says_so(kind):
    layer = make_layer(kind)
    u = random_series(2, LENGTH, WIDTH)
    with pytest.raises(UnsupportedError, match="bidirectional"):
        layer.scan(u, layer.initial_state(2))
    with pytest.raises(UnsupportedError, match="bidirectional"):
        layer.step(u[:, 0], layer.initial_state(2))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_modes_are_what_runs(kind):
    layer = make_layer(kind, step_rescale=1.5)
    modes = layer.modes("a.b")
    assert (modes.layer, modes.grid) == ("a.b", layer.grid())
    assert modes.conjugate == kind.conj_sym
    for n, (a, b, c, c_back) in enumerate(oracle.modes(layer)):
        # SISO modes name their channel instead of holding zeros for the others.
        channel = slice(None) if modes.channel is None else [int(modes.channel[n])]
        assert_close("oracle", modes.A_bar[n], torch.tensor(a, dtype=torch.complex128))
        assert_close("oracle", modes.B_bar[n], torch.from_numpy(b)[channel])
        assert_close("oracle", modes.C[n], torch.from_numpy(c)[channel])
        assert (c_back is None) == (modes.C_back is None)
        if c_back is not None:
            assert_close("oracle", modes.C_back[n], torch.from_numpy(c_back)[channel])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_modes_of_a_float32_layer_are_computed_in_float64(kind):
    layer = make_layer(kind, dtype=torch.float32)
    wide = make_layer(kind)
    wide.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    assert torch.equal(layer.modes("x").A_bar, wide.modes("x").A_bar)
    assert layer.get_parameter("D").dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_float32_follows_float64(kind):
    layer, wide = make_layer(kind, dtype=torch.float32), make_layer(kind)
    u = random_series(2, LENGTH, WIDTH)
    with torch.no_grad():
        y, state = layer.scan(u.float())
        expected, last = wide.scan(u)
    assert_close("oracle", y, expected.float())
    assert_close("oracle", state, last.to(torch.complex64))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.conj_sym], ids=str)
def test_half_of_the_pairs_is_the_full_system(kind):
    half = make_layer(kind)
    full_kind = Kind(kind.family, kind.bidirectional, False, kind.discretisation)
    counts = kind.states
    doubled = tuple(2 * n for n in counts) if isinstance(counts, tuple) else 2 * counts
    full = make_layer(full_kind, states=doubled)
    full.load_state_dict(both_members(half))
    u = random_series(2, LENGTH, WIDTH)
    with torch.no_grad():
        assert_close("oracle", full(u), half(u))


def both_members(layer):
    """The parameters of a layer that stores each state and its conjugate side by side."""
    flip = torch.tensor([1.0, -1.0], dtype=torch.float64)
    found = {}
    for name, value in layer.state_dict().items():
        conjugate = {
            "Lambda_im": -1.0, "A_imag": -1.0, "B": flip, "C": flip, "C1": flip, "C2": flip,
        }.get(name, 1.0)  # fmt: skip
        if name in ("D", "log_dt"):
            found[name] = value
            continue
        if layer.family == "s5":
            axis = 1 if name.startswith("C") else 0
        else:
            axis = value.ndim - (2 if name == "C" else 1)
        if layer.family == "s4d" and len(layer.grid()) == 1:
            # Flat states stay sorted by channel: each one is followed by its conjugate.
            pair = torch.stack([value, value * conjugate], dim=axis + 1)
            found[name] = pair.flatten(axis, axis + 1)
        else:
            found[name] = torch.cat([value, value * conjugate], dim=axis)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_are_those_of_the_modes(kind):
    """The same layer, summed mode by mode from Python loops that autograd follows."""
    layer = make_layer(kind)
    u = random_series(2, 7, WIDTH).requires_grad_()
    weight = random_series(2, 7, WIDTH, seed=5)
    parameters = [item for item in layer.parameters() if item.numel()]
    expected = torch.autograd.grad((by_autograd(layer, u) * weight).sum(), [u, *parameters])
    for run in (layer, lambda u: layer.scan(u)[0]):
        got = torch.autograd.grad((run(u) * weight).sum(), [u, *parameters])
        for value, reference in zip(got, expected, strict=True):
            assert_close("twin gradient", value, reference)


def by_autograd(layer, u):
    """Sum over modes and steps, in torch, from the parameters."""
    p = {name: value.clone() for name, value in layer.named_parameters()}
    if layer.family == "s5":
        A = torch.complex(p["Lambda_re"], p["Lambda_im"])
        dt = p["log_step"].squeeze(-1).exp()
        B = torch.view_as_complex(p["B"])
        reads = [torch.view_as_complex(p[name]) for name in ("C", "C1", "C2") if name in p]
    else:
        A = torch.complex(-p["log_A_real"].exp(), p["A_imag"]).reshape(-1)
        dt = p["log_dt"].exp()[layer.channel]
        B = torch.eye(WIDTH, dtype=torch.complex128)[layer.channel]
        rows = torch.view_as_complex(p["C"]).reshape(-1, layer.n_states)
        reads = [(row.unsqueeze(-1) * B).mT for row in rows]
    if layer.options.discretisation == "zoh":
        A_bar = (A * dt).exp()
        gain = (A_bar - 1) / A
    else:
        A_bar, gain = (1 + A * dt / 2) / (1 - A * dt / 2), dt / (1 - A * dt / 2)
    factor = 2 if layer.options.conj_sym else 1
    y = p["D"] * u
    for read, times in zip(reads, (range(u.shape[1]), range(u.shape[1])[::-1]), strict=False):
        x, seen = torch.zeros(len(u), layer.n_states, dtype=torch.complex128), {}
        for t in times:
            x = A_bar * x + gain * (u[:, t].to(torch.complex128) @ B.mT)
            seen[t] = factor * (x @ read.mT).real
        y = y + torch.stack([seen[t] for t in range(u.shape[1])], dim=1)
    return y


@pytest.mark.parametrize("family", ["s4d", "s4d_ragged"])
@pytest.mark.parametrize("discretisation", ["zoh", "bilinear"])
def test_a_state_damped_to_nothing_within_one_step(family, discretisation):
    layer = make_layer(Kind(family, discretisation=discretisation), dt_min=0.5, dt_max=0.5)
    with torch.no_grad():
        if discretisation == "zoh":
            layer.get_parameter("log_A_real").view(-1)[1] = 9.0
        else:
            # AΔ = −2 exactly: the bilinear eigenvalue is 0.
            layer.get_parameter("log_A_real").view(-1)[1] = torch.tensor(4.0).double().log()
            layer.get_parameter("A_imag").view(-1)[1] = 0.0
            layer.get_parameter("log_dt").fill_(torch.tensor(0.5).double().log())
    assert complex(layer.discretise().A_bar[1].detach()) == 0
    u = random_series(2, 7, WIDTH)
    expected, last = by_oracle(layer, u)
    y, state = layer.scan(u)
    assert_close("oracle", y.detach(), expected)
    assert_close("oracle", state.detach(), last)
    y.sum().backward()
    for item in layer.parameters():
        assert bool(torch.isfinite(item.grad).all())
