"""What the methods are, against definitions written out by hand, in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.adapting import build, disturb_, gap, run
from helpers.tiny_mamba import tiny, tokens
from ssmith import adapters
from ssmith.families.hf import engine
from ssmith.ops.selective_scan import ScanInputs, selective_scan
from ssmith.ops.selective_scan.reference import selective_scan_reference

EXACT = 1e-12
SELECTIVE = ("mamba", "falcon_mamba", "mamba2")


def mixer_of(model, layer=0):
    return model.backbone.layers[layer].mixer


def hidden(length=9, batch=2, seed=0, width=20):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, width, generator=draw, dtype=torch.float64)


def attached(family, method):
    """A mixer in float64 with a disturbed adapter, and its part."""
    mixer = mixer_of(tiny(family, dtype=torch.float64))
    adapters.attach_(mixer, method, prove=False)
    disturb_(mixer)
    (slot,) = [part for name, part in mixer.named_children() if name == "ssmith_adapters"]
    return mixer, slot


def numbers(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 4), st.integers(1, 5))
def test_a_state_offset_is_as_many_states_that_never_decay(b, length, e, n):
    x, dt, z = (numbers(b, length, e, seed=seed) for seed in range(3))
    B, C = numbers(b, length, n, seed=3), numbers(b, length, n, seed=4)
    A, offset = -numbers(e, n, seed=5).exp(), numbers(e, n, seed=6)
    common = {"x": x, "dt": dt, "D": numbers(e, seed=7), "z": z, "dt_softplus": True}
    with_offset, _ = selective_scan(ScanInputs(A=A, B=B, C=C, h_offset=offset, **common))
    # A = 0 and B = 0: the further states stay at h′ for ever, read by the same C.
    wider, _ = selective_scan_reference(
        ScanInputs(
            A=torch.cat([A, torch.zeros_like(A)], 1),
            B=torch.cat([B, torch.zeros_like(B)], 2),
            C=torch.cat([C, C], 2),
            h0=torch.cat([torch.zeros_like(offset), offset], 1).expand(b, -1, -1),
            **common,
        )
    )
    assert gap(with_offset, wider) < EXACT


def test_the_gradient_of_an_offset_is_one_product():
    """∂L/∂h′[d, n] = Σ_{b,t} (∂L/∂ŷ)_{t,d} C_t[n], with ŷ before the gate."""
    b, length, e, n = 2, 7, 4, 3
    x, dt, z, grad = (numbers(b, length, e, seed=seed) for seed in range(4))
    B, C = numbers(b, length, n, seed=4), numbers(b, length, n, seed=5)
    offset = numbers(e, n, seed=6).requires_grad_()
    A = -numbers(e, n, seed=7).exp()
    y, _ = selective_scan(
        ScanInputs(x=x, dt=dt, A=A, B=B, C=C, z=z, h_offset=offset, dt_softplus=True)
    )
    y.backward(grad)
    before_gate = grad * torch.nn.functional.silu(z)
    wanted = torch.einsum("ble,bln->en", before_gate, C)
    assert gap(offset.grad, wanted) < EXACT


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba"])
def test_an_output_offset_passes_the_gate(family):
    mixer, slot = attached(family, adapters.StateOffset(form="y"))
    y = slot.default.state_offset.y.detach()
    u = hidden()
    with torch.no_grad():
        found = mixer(u)
        with adapters.disabled(mixer):
            gates = torch.nn.functional.silu(mixer.in_proj(u).chunk(2, dim=-1)[1])
            plain = before_projection(mixer, u)
        assert gap(found, mixer.out_proj(plain + y * gates)) < EXACT


def before_projection(mixer, u):
    """What goes into the output projection."""
    seen = []
    hook = mixer.out_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        mixer(u)
    hook.remove()
    return seen[0]


def test_mamba2_adds_offsets_before_its_gated_norm():
    mixer, slot = attached("mamba2", adapters.StateOffset(form="both"))
    part = slot.default.state_offset
    seen = []
    hook = mixer.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    u = hidden()
    with torch.no_grad():
        mixer(u)
        with adapters.disabled(mixer):
            mixer(u)
    hook.remove()
    with torch.no_grad():
        projected = mixer.in_proj(u)[..., mixer.intermediate_size : -mixer.num_heads]
        convolved = torch.nn.functional.silu(mixer.conv1d(projected.mT)[..., : u.shape[1]].mT)
        C = convolved[..., -mixer.n_groups * mixer.ssm_state_size :]
        read = torch.einsum("bln,hpn->blhp", C, part.h).flatten(2)
        assert gap(seen[0], seen[1] + read + part.y) < EXACT


@pytest.mark.parametrize("family", SELECTIVE)
def test_a_low_rank_offset_is_the_full_one_it_multiplies_to(family):
    low, slot = attached(family, adapters.StateOffset(form="h", rank=2, r_ratio=2))
    part = slot.default.state_offset
    full, other = attached(family, adapters.StateOffset(form="h"))
    with torch.no_grad():
        other.default.state_offset.h.copy_((part.U @ part.V).reshape(part.shape))
        assert gap(low(hidden()), full(hidden())) < EXACT


def test_a_low_rank_offset_starts_as_published():
    _, slot = attached_fresh("mamba", adapters.StateOffset(form="h", rank=3, r_ratio=2))
    part = slot.default.state_offset
    assert not part.U.any()
    assert part.U.shape == (20, 3)
    assert part.V.shape == (3, 10)
    assert float(part.V.detach().abs().max()) <= math.sqrt(1 / 10)


def attached_fresh(family, method):
    mixer = mixer_of(tiny(family, dtype=torch.float64))
    adapters.attach_(mixer, method, prove=False)
    return mixer, mixer.ssmith_adapters


@pytest.mark.parametrize("family", SELECTIVE)
def test_a_prefix_is_virtual_inputs_whose_outputs_are_dropped(family):
    mixer, slot = attached(family, adapters.PrefixTuning(tokens=3))
    virtual = slot.default.prefix.inputs.detach()
    for length in (1, 2, 9):
        u = hidden(length=length)
        with torch.no_grad():
            found = mixer(u)
            with adapters.disabled(mixer):
                whole = mixer(torch.cat([virtual.expand(2, -1, -1), u], dim=1))
        # transformers' gated norm of Mamba-2 rounds to float32.
        assert gap(found, whole[:, 3:]) < (5e-7 if family == "mamba2" else EXACT)


@pytest.mark.parametrize("family", SELECTIVE)
def test_a_prefix_fades_and_an_offset_does_not(family):
    kept = {}
    for method in (adapters.PrefixTuning(tokens=3), adapters.StateOffset(form="h")):
        mixer, _ = attached(family, method)
        u = hidden(length=300, batch=1)
        with torch.no_grad():
            found = mixer(u)
            with adapters.disabled(mixer):
                moved = (found - mixer(u)).abs()
        kept[method.method] = float(moved[:, -20:].max() / moved[:, :20].max())
    assert kept["prefix"] < 0.02
    assert kept["state-offset"] > 0.2


@pytest.mark.parametrize("family", SELECTIVE)
def test_a_prompt_is_embeddings_before_the_first_token(family):
    model = build(family)
    adapters.attach_(model, adapters.PromptTuning(tokens=4), prove=False)
    part = model.backbone.ssmith_adapters.default.prompt
    ids = tokens(2, 8)
    found = run(model, {"input_ids": ids})
    with adapters.disabled(model):
        embedded = model.backbone.embeddings(ids)
        both = torch.cat([part.embeddings.expand(2, -1, -1), embedded], dim=1)
        whole = run(model, {"inputs_embeds": both})
    assert gap(found, whole[:, 4:]) < 5e-6
    rows = [bool((model.backbone.embeddings.weight == row).all(1).any()) for row in part.embeddings]
    assert all(rows), "it starts from embeddings of the vocabulary"


def test_further_states_continue_the_table_of_decays():
    mixer, slot = attached_fresh("mamba", adapters.AdditionalScan(states=4))
    part = slot.default.additional_scan
    n = mixer.A_log.shape[1]
    assert torch.allclose(part.A_log.exp()[0], torch.arange(n + 1, n + 5).double())
    assert not part.C.any()
    disturb_(mixer)
    with torch.no_grad():
        wide = mixer_of(tiny("mamba", dtype=torch.float64, state_size=n + 4))
        rank = mixer.dt_proj.in_features
        for name, tensor in mixer.state_dict().items():
            if name in dict(wide.named_parameters()) and name not in ("A_log", "x_proj.weight"):
                wide.get_parameter(name).copy_(tensor)
        wide.A_log.copy_(torch.cat([mixer.A_log, part.A_log], dim=1))
        rows = mixer.x_proj.weight.split([rank, n, n])
        wide.x_proj.weight.copy_(torch.cat([rows[0], rows[1], part.B, rows[2], part.C]))
        with engine(wide):
            assert gap(mixer(hidden()), wide(hidden())) < EXACT


def test_the_official_start_of_further_states_is_known_to_be_dead():
    model = tiny("mamba", dtype=torch.float64, state_size=16)
    official = adapters.AdditionalScan(states=2, initialisation="official")
    report = adapters.attach_(model, official)
    assert [finding.kind for finding in report.findings if finding.kind == "inert"] == ["inert"] * 2
    dead = [norm for name, norm in report.proof.items() if name.endswith("A_log")]
    assert max(dead) < 1e-9 * max(report.proof.values())
    part = mixer_of(model).ssmith_adapters.default.additional_scan
    assert bool((part.A_log == 16.0).all())


@pytest.mark.parametrize("family", ["s5", "s4d"])
def test_an_offset_of_our_own_layers_is_a_constant_on_their_output(family):
    model = build(family)
    adapters.attach_(model, adapters.StateOffset(form="y"), prove=False)
    disturb_(model)
    layer = model.blocks[0].ssm
    u = numbers(2, 7, layer.width)
    with torch.no_grad():
        found = layer(u)
        with adapters.disabled(model):
            base = layer(u)
    offset = layer.ssmith_adapters.default.state_offset.y.detach()
    assert gap(found, base + offset) < EXACT


@pytest.mark.parametrize("family", ["s5", "s4d"])
def test_an_initial_state_of_our_own_layers_is_a_state_carried_in(family):
    model = build(family)
    adapters.attach_(model, adapters.InitialState(), prove=False)
    disturb_(model)
    layer = model.blocks[0].ssm
    u = numbers(2, 7, layer.width)
    start = torch.view_as_complex(layer.ssmith_adapters.default.initial_state.h.detach())
    with torch.no_grad():
        found = layer(u)
        with adapters.disabled(model):
            wanted, _ = layer.scan(u, start.expand(2, -1).clone())
    assert gap(found, wanted) < EXACT
