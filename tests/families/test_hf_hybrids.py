"""Hybrids on our scans: equal to stock where stock is right, and right elsewhere."""

import copy

import pytest
import torch
from torch import nn

from helpers.tiny_hybrids import HYBRIDS, tiny_hybrid
from helpers.tiny_mamba import tokens
from ssmith.core.errors import UnsupportedError
from ssmith.families import describe, scan_of
from ssmith.families.hf import accelerate_, engine, restore_

transformers = pytest.importorskip("transformers")

FLOAT32 = 2e-5
FLOAT64 = 2e-6
GREEDY = {"max_new_tokens": 16, "do_sample": False}
SECOND = ("zamba2", "bamba", "falcon_h1", "granitemoehybrid", "nemotron_h")


@pytest.fixture(params=HYBRIDS)
def name(request):
    return request.param


def in_two(model, ids, first):
    begun = model(ids[:, :first], use_cache=True)
    rest = model(ids[:, first:], past_key_values=begun.past_key_values, use_cache=True)
    return torch.cat([begun.logits, rest.logits], dim=1)


@torch.no_grad()
def test_forward_equals_stock_and_leaves_no_trace(name):
    model, ids = tiny_hybrid(name), tokens(2, 29)
    kinds = [type(part) for part in model.modules()]
    stock = model(ids).logits
    with engine(model) as report:
        mixers = [part for part in model.modules() if hasattr(part, "A_log")]
        assert (len(report.layers), report.left) == (len(mixers), ())
        assert (model(ids).logits - stock).abs().max() < FLOAT32
    assert [type(part) for part in model.modules()] == kinds
    accelerate_(model)
    assert [type(part) for part in copy.deepcopy(model).modules()] == kinds
    assert set(report.layers) < set(restore_(model))
    assert torch.equal(model(ids).logits, stock)


def test_gradients_equal_stock(name):
    model, ids = tiny_hybrid(name).train(), tokens(2, 19)

    def gradients():
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        return {
            key: value.grad.clone()
            for key, value in model.named_parameters()
            if value.grad is not None
        }

    stock = gradients()
    with engine(model):
        ours = gradients()
    assert stock.keys() == ours.keys()
    assert sum("A_log" in key for key in ours) >= 2
    for key, wanted in stock.items():
        scale = wanted.abs().max().clamp_min(1e-3)
        assert (ours[key] - wanted).abs().max() / scale < 2e-4, key


@pytest.mark.parametrize("first", [1, 3, 8, 9, 13])
@torch.no_grad()
def test_continuing_from_a_cache_equals_the_whole(name, first):
    model, ids = tiny_hybrid(name, dtype=torch.float64), tokens(2, 22)
    with engine(model):
        assert (in_two(model, ids, first) - model(ids).logits).abs().max() < FLOAT64


@torch.no_grad()
def test_stock_drops_a_state_that_several_tokens_follow():
    for name in ("jamba", "zamba"):
        model, ids = tiny_hybrid(name), tokens(2, 22)
        assert (in_two(model, ids, 13) - model(ids).logits).abs().max() > 1e-3


@torch.no_grad()
def test_token_by_token_equals_the_whole(name):
    model, ids = tiny_hybrid(name, dtype=torch.float64), tokens(2, 12)
    with engine(model):
        whole, cache, pieces = model(ids).logits, None, []
        for part in ids.split(1, dim=1):
            out = model(part, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            pieces.append(out.logits)
    assert (torch.cat(pieces, dim=1) - whole).abs().max() < FLOAT64


@pytest.mark.parametrize("limit", [0.3, 0.5])
@torch.no_grad()
def test_the_floor_of_steps_holds_in_decoding_too(limit):
    model, ids = tiny_hybrid("nemotron_h", dtype=torch.float64, time_step_min=limit), tokens(1, 9)
    assert (in_two(model, ids, 8) - model(ids).logits).abs().max() > 1e-4
    with engine(model):
        assert (in_two(model, ids, 8) - model(ids).logits).abs().max() < FLOAT64


@pytest.mark.parametrize("side", ["left", "right", "both"])
@torch.no_grad()
def test_each_padded_row_equals_its_solo_run(name, side):
    model, ids = tiny_hybrid(name, dtype=torch.float64), tokens(3, 14)
    lengths = [14, 5, 2]
    batch, mask = torch.zeros(3, 14, dtype=torch.int64), torch.zeros(3, 14, dtype=torch.int64)
    for row, length in enumerate(lengths):
        gap = 14 - length
        start = {"left": gap, "right": 0, "both": gap // 2}[side]
        batch[row, start : start + length] = ids[row, :length]
        mask[row, start : start + length] = 1
    following = tokens(3, 6, seed=1)
    with engine(model):
        out = model(batch, attention_mask=mask, use_cache=True)
        cache = out.past_key_values
        whole = torch.cat([mask, torch.ones_like(following)], dim=1)
        later = model(following, attention_mask=whole, past_key_values=cache).logits
        for row, length in enumerate(lengths):
            alone = model(torch.cat([ids[row, :length], following[row]])[None]).logits[0]
            assert (out.logits[row][mask[row].bool()] - alone[:length]).abs().max() < FLOAT64
            assert (later[row] - alone[length:]).abs().max() < FLOAT64


@torch.no_grad()
def test_a_cache_with_padding_asks_for_its_mask(name):
    model, ids = tiny_hybrid(name), tokens(2, 6)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    with engine(model):
        cache = model(ids, attention_mask=mask, use_cache=True).past_key_values
        with pytest.raises(UnsupportedError, match="the cache holds padding"):
            model(ids[:, :1], past_key_values=cache)


@torch.no_grad()
def test_generation_equals_stock_and_solo_runs(name):
    model, ids = tiny_hybrid(name), tokens(2, 10)
    mask = torch.ones_like(ids)
    stock = model.generate(ids, attention_mask=mask, **GREEDY)
    with engine(model):
        assert torch.equal(model.generate(ids, attention_mask=mask, **GREEDY), stock)
        chunks = model.generate(ids, attention_mask=mask, prefill_chunk_size=7, **GREEDY)
        assert torch.equal(chunks, stock)
        ids[1, :6], mask[1, :6] = 0, 0
        batch = model.generate(ids, attention_mask=mask, **GREEDY)
        alone = model.generate(ids[1:, 6:], attention_mask=mask[1:, 6:], **GREEDY)
        assert torch.equal(batch[1, 10:], alone[0, 4:])
        with pytest.raises(UnsupportedError, match="padded on the right"):
            model.generate(ids, attention_mask=mask.flip(1), **GREEDY)


def test_training_under_autocast_and_checkpointing(name):
    model, ids = tiny_hybrid(name).train(), tokens(1, 12)
    with engine(model):
        plain = model(ids, labels=ids).loss
        model.activation_checkpointing_enable()
        again = model(ids, labels=ids).loss
        assert torch.allclose(again, plain, atol=1e-6)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            narrow = model(ids, labels=ids).loss
        narrow.backward()
    assert abs(float(narrow.detach()) - float(plain.detach())) < 0.1
    for key, value in model.named_parameters():
        if "A_log" in key:
            assert bool(value.grad.isfinite().all()), key
            assert value.grad.abs().max() > 0, key


@torch.no_grad()
def test_falcon_h1_may_norm_its_output():
    model, ids = tiny_hybrid("falcon_h1", mamba_rms_norm=True), tokens(2, 9)
    stock = model(ids).logits
    with engine(model):
        assert (model(ids).logits - stock).abs().max() < FLOAT32


def test_packed_rows_are_refused_by_name():
    model, ids = tiny_hybrid("bamba"), tokens(1, 8)
    with engine(model), pytest.raises(UnsupportedError, match=r"seq_idx.*padding instead"):
        model(ids, seq_idx=torch.zeros(1, 8, dtype=torch.int32))


def test_what_the_layers_hold_is_described(name):
    model = tiny_hybrid(name)
    layers = describe(model)
    assert {layer.family for layer in layers} == {name}
    assert scan_of(model) == ("ssd" if name in SECOND else "selective_scan")
    for layer in layers:
        assert layer.units["state"] == 5
        assert layer.width == 40
        heads = {"jamba": None, "zamba": 2}.get(name, 5)
        assert layer.units.get("head") == heads


@torch.no_grad()
def test_offsets_and_first_states_take_part(name):
    model, ids = tiny_hybrid(name, dtype=torch.float64), tokens(1, 9)
    mixer = next(part for part in model.modules() if hasattr(part, "A_log"))
    shape = {"jamba": (40, 5), "zamba": (2, 20, 5)}.get(name, (5, 8, 5))
    draw = torch.Generator().manual_seed(3)
    with engine(model):
        base = model(ids).logits
        for extra in ("state_offset", "initial_state"):
            value = torch.randn(*shape, generator=draw, dtype=torch.float64)
            setattr(mixer, extra, nn.Parameter(value))
            changed = model(ids).logits
            assert (changed - base).abs().max() > 1e-4
            assert (in_two(model, ids, 4) - changed).abs().max() < FLOAT64
            delattr(mixer, extra)


def test_a_delta_rule_is_refused_with_what_it_is():
    config = transformers.Qwen3NextConfig(
        vocab_size=61, hidden_size=16, num_hidden_layers=1, layer_types=["linear_attention"],
        linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=8,
        linear_value_head_dim=8, intermediate_size=16, moe_intermediate_size=8, num_experts=2,
        num_experts_per_tok=1, shared_expert_intermediate_size=8, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    model = transformers.Qwen3NextForCausalLM(config)
    with pytest.raises(UnsupportedError, match="gated delta rule, which is no selective scan"):
        accelerate_(model)
