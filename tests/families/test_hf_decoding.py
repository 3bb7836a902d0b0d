"""Decoding in one operation: taken where nothing stands in its way, and never where it would."""

from unittest import mock

import pytest
import torch
from torch import nn

from helpers.tiny_mamba import tiny, tokens
from ssmith.families.hf import engine
from ssmith.families.mamba import decoding
from ssmith.families.mamba import forward as mamba
from ssmith.families.parts.hooks import Hooks
from ssmith.ops.backends import use_backend
from ssmith.ops.native import library

pytest.importorskip("transformers")
pytestmark = pytest.mark.skipif(library() is None, reason="no compiled kernels here")


def decoded(model, ids):
    """Logits of three tokens, then one by one, and how many steps were one operation."""
    taken = mock.Mock(side_effect=mamba.mixer_step_native_)
    with mock.patch.object(mamba, "mixer_step_native_", taken), engine(model):
        cache, pieces = None, []
        for part in (ids[:, :3], *ids[:, 3:].split(1, dim=1)):
            out = model(part, cache_params=cache, use_cache=True)
            cache = out.cache_params
            pieces.append(out.logits)
        return torch.cat(pieces, dim=1), taken.call_count


def forbidden():
    return mock.patch.object(mamba, "whole_step", lambda *_: None)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3])
def test_every_step_is_one_operation_and_equals_the_ordinary_path(batch):
    model, ids = tiny("mamba"), tokens(batch, 12)
    got, taken = decoded(model, ids)
    assert taken == 9 * 2
    with forbidden():
        wanted, taken = decoded(model, ids)
    assert taken == 0
    assert (got - wanted).abs().max() < 2e-6
    with engine(model):
        assert (got - model(ids).logits).abs().max() < 2e-5


@torch.no_grad()
@pytest.mark.parametrize("name", ["state_offset", "output_offset", "initial_state"])
def test_offsets_take_part(name):
    model, ids = tiny("mamba"), tokens(1, 8)
    shape = (40,) if name == "output_offset" else (40, 5)
    value = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    base, _ = decoded(model, ids)
    setattr(model.backbone.layers[1].mixer, name, nn.Parameter(value))
    got, taken = decoded(model, ids)
    assert taken == 5 * 2
    with forbidden():
        wanted, _ = decoded(model, ids)
    assert (got - wanted).abs().max() < 5e-6
    assert (got - base)[:, 3:].abs().max() > 1e-3


class Plus(nn.Linear):
    """A layer of another class, as adapters make them."""

    def forward(self, x):
        return super().forward(x) + 1.0


def watched(mixer):
    return mixer.in_proj.register_forward_hook(lambda module, given, out: out + 1.0)


def watched_before(mixer):
    return mixer.out_proj.register_forward_pre_hook(lambda module, given: (given[0] + 1.0,))


def another_class(mixer):
    mixer.x_proj.__class__ = Plus


def another_forward(mixer):
    layer = mixer.out_proj
    layer.forward = lambda x: nn.functional.linear(x, layer.weight) + 1.0


def another_activation(mixer):
    mixer.activation, mixer.act = "relu", nn.ReLU()


def parametrised(mixer):
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2.0 * weight

    nn.utils.parametrize.register_parametrization(mixer.in_proj, "weight", Doubled())


@torch.no_grad()
@pytest.mark.parametrize(
    "attach",
    [watched, watched_before, another_class, another_forward, another_activation, parametrised],
)
def test_what_is_attached_to_a_layer_takes_part(attach):
    model, ids = tiny("mamba", num_hidden_layers=1), tokens(2, 8)
    base, _ = decoded(model, ids)
    attach(model.backbone.layers[0].mixer)
    got, taken = decoded(model, ids)
    assert taken == 0
    assert (got - base)[:, 3:].abs().max() > 1e-4
    with engine(model):
        assert (got - model(ids).logits).abs().max() < 2e-5


@torch.no_grad()
def test_a_hook_on_every_module_sees_every_layer():
    model, ids = tiny("mamba", num_hidden_layers=1), tokens(1, 5)
    seen = []
    with nn.modules.module.register_module_forward_hook(lambda part, *_: seen.append(type(part))):
        _, taken = decoded(model, ids)
    assert taken == 0
    assert seen.count(nn.Conv1d) == 0
    assert seen.count(nn.Linear) >= 3 * 3


@torch.no_grad()
def test_other_dtypes_paths_and_large_batches_take_the_ordinary_path():
    ids = tokens(1, 5)
    for model in (tiny("mamba", dtype=torch.float64), tiny("mamba", dtype=torch.bfloat16)):
        assert decoded(model, ids)[1] == 0
    assert decoded(tiny("falcon_mamba"), ids)[1] == 0
    model = tiny("mamba")
    assert decoded(model, tokens(decoding.MOST_SEQUENCES + 1, 5))[1] == 0
    with use_backend("reference"):
        assert decoded(model, ids)[1] == 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert decoded(model, ids)[1] == 0
    with torch.enable_grad():
        assert decoded(model, ids)[1] == 0


def test_adapters_that_change_more_than_offsets_take_the_ordinary_path():
    row = torch.zeros(2, 40, 5)
    assert decoding._only_offsets(Hooks(state_offset=row[0], output_offset=row[0, :, 0]))
    for more in (
        {"prefix": torch.zeros(1, 20)}, {"state_offset": row}, {"output_offset": row[..., 0]}
    ):  # fmt: skip
        assert not decoding._only_offsets(Hooks(**more))


@torch.no_grad()
def test_padding_on_the_left_leaves_no_trace_in_decoding():
    model, ids = tiny("mamba"), tokens(2, 9)
    mask = torch.ones_like(ids)
    ids[1, :4], mask[1, :4] = 0, 0
    settings = {"max_new_tokens": 12, "do_sample": False}
    with engine(model):
        both = model.generate(ids, attention_mask=mask, **settings)
        alone = model.generate(ids[1:, 4:], attention_mask=mask[1:, 4:], **settings)
    assert torch.equal(both[1, 9:], alone[0, 5:])
