"""What was cut stays cut, whoever writes into the parameter; and at rest nobody writes."""

import copy
from contextlib import nullcontext
from unittest import mock

import pytest
import torch

import ssmith as sm
from helpers.tiny_mamba import tiny, tokens
from ssmith.families.hf import engine
from ssmith.families.mamba import forward as mamba
from ssmith.families.mamba.family import cut_
from ssmith.families.mamba.units import PROJECTIONS
from ssmith.families.masks import apply_mask_, masks_of, reapply_masks_
from ssmith.families.registry import find_selective
from ssmith.ops.native import library

pytest.importorskip("transformers")


def masked(kind="mamba"):
    """A model with half of every projection cut, at random."""
    model, draw = tiny(kind), torch.Generator().manual_seed(0)
    for layer in find_selective(model).values():
        for name in PROJECTIONS:
            weight = layer.mixer.get_submodule(name).weight
            cut_(
                layer,
                "weight",
                torch.rand(weight.shape, generator=draw) > 0.5,
                target=f"{name}.weight",
            )
    return model.eval()


def resurrected(model):
    """Names of parameters with a cut entry that holds another value."""
    return [
        name
        for name, keep, fill in masks_of(model)
        if bool((model.get_parameter(name).detach()[~keep] != fill).any())
    ]


def train_a_step(model, ids):
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    model(ids, labels=ids).loss.backward()
    optimiser.step()
    optimiser.zero_grad()


@pytest.mark.parametrize("kind", ["mamba", "falcon_mamba"])
@pytest.mark.parametrize("on", [engine, nullcontext], ids=["engine", "stock"])
def test_every_projection_is_held_also_those_a_mixer_never_calls(kind, on):
    model, ids = masked(kind).train(), tokens(2, 9)
    with on() if on is nullcontext else on(model):
        train_a_step(model, ids)
        assert len(resurrected(model)) == 2 * len(PROJECTIONS)
        model(ids)
    assert resurrected(model) == []


def test_a_model_saved_after_an_optimisers_last_step_opens_again(tmp_path):
    model, ids = masked().train(), tokens(2, 9)
    train_a_step(model, ids)
    sm.save(model, tmp_path / "model")
    assert resurrected(sm.load(tmp_path / "model")) == []


@pytest.mark.skipif(library() is None, reason="no compiled kernels here")
@torch.no_grad()
def test_a_masked_model_decodes_in_one_operation_and_equals_one_with_plain_zeros():
    model, ids = masked(), tokens(1, 8)
    plain = tiny("mamba").eval()
    plain.load_state_dict(model.state_dict())
    found = []
    for each in (model, plain):
        taken = mock.Mock(side_effect=mamba.mixer_step_native_)
        with mock.patch.object(mamba, "mixer_step_native_", taken), engine(each):
            cache = each(ids[:, :7], use_cache=True).cache_params
            found.append(each(ids[:, 7:], cache_params=cache, use_cache=True).logits)
        assert taken.call_count == 2
    assert torch.equal(*found)


def weights(model):
    return [model.get_parameter(name) for name, _, _ in masks_of(model)]


def in_place(model):
    for weight in weights(model):
        weight.add_(1.0)


def loaded(model):
    model.load_state_dict({name: value + 1.0 for name, value in model.state_dict().items()})


def past_autograd(model):
    for weight in weights(model):
        weight.data.add_(1.0)


def as_peft_merges(model):
    for weight in weights(model):
        weight.data += 1.0


def replaced(model):
    for weight in weights(model):
        weight.data = weight.data + 1.0


def fused(model):
    for weight in weights(model):
        weight.grad = torch.ones_like(weight)
    torch.optim.AdamW(weights(model), lr=0.1, fused=True).step()


def copied(model):
    for name, parameter in masked().named_parameters():
        model.get_parameter(name).data.copy_(parameter + 1.0)


@torch.no_grad()
@pytest.mark.parametrize(
    "write", [in_place, loaded, past_autograd, as_peft_merges, replaced, fused, copied]
)
def test_writes_are_noticed_at_rest(write):
    model, ids = masked(), tokens(1, 9)
    model(ids)
    model(ids)
    write(model)
    assert resurrected(model)
    model(ids)
    assert resurrected(model) == []


def unseen_write(model):
    """Write one cut entry that nobody looks at, past autograd."""
    mixer = model.backbone.layers[0].mixer
    looked_at = mixer.in_proj.__dict__["ssmith_seen_weight"].places
    cut = (~mixer.in_proj.ssmith_mask_weight).reshape(-1).nonzero().squeeze(-1)
    place = cut[~torch.isin(cut, looked_at)][0]
    mixer.in_proj.weight.data.view(-1)[place] = 1.0


@pytest.fixture
def spoilt():
    model, ids = masked(), tokens(1, 9)
    with torch.no_grad():
        model(ids)
        unseen_write(model)
        model(ids)
    # Nobody wrote at rest: this is what makes decoding with masks as fast as without.
    assert resurrected(model) == ["backbone.layers.0.mixer.in_proj.weight"]
    return model


def test_an_unseen_write_waits_for_a_pass_with_gradients(spoilt):
    spoilt(tokens(1, 9))
    assert resurrected(spoilt) == []


@torch.no_grad()
def test_or_for_a_pass_in_training_mode(spoilt):
    spoilt.train()(tokens(1, 9))
    assert resurrected(spoilt) == []


@torch.no_grad()
def test_or_for_saving(spoilt, tmp_path):
    sm.save(spoilt, tmp_path / "model")
    assert resurrected(spoilt) == []
    assert resurrected(sm.load(tmp_path / "model")) == []


@torch.no_grad()
def test_or_for_who_asks(spoilt):
    reapply_masks_(spoilt)
    assert resurrected(spoilt) == []


@torch.no_grad()
def test_after_training_nothing_is_believed():
    model, ids = masked(), tokens(1, 9)
    model(ids)
    model.train()(ids)
    model.eval()
    mixer = model.backbone.layers[0].mixer
    mixer.in_proj.weight.data[~mixer.in_proj.ssmith_mask_weight] = 1.0
    with mock.patch.object(torch, "equal", lambda *_: True):
        model(ids)
    assert resurrected(model) == []


@torch.no_grad()
def test_copies_and_further_masks_believe_nothing():
    model, ids = masked(), tokens(1, 9)
    model(ids)
    twin = copy.deepcopy(model)
    unseen_write(twin)
    twin(ids)
    assert resurrected(twin) == []
    mixer = model.backbone.layers[0].mixer
    apply_mask_(
        mixer, "in_proj.weight", torch.zeros_like(mixer.in_proj.weight, dtype=torch.bool), 0.0
    )
    assert not bool(mixer.in_proj.weight.any())
    model(ids)
    assert resurrected(model) == []


def test_parameters_of_inference_mode_are_held_as_well():
    with torch.inference_mode():
        model, ids = masked(), tokens(1, 9)
        model(ids)
        past_autograd(model)
        model(ids)
        assert resurrected(model) == []
