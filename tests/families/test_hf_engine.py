"""Hugging Face models on our scans: equal to stock where stock is right, and right elsewhere."""

import copy

import pytest
import torch

from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith.core.errors import UnsupportedError
from ssmith.families.hf import accelerate_, engine, restore_

DynamicCache = pytest.importorskip("transformers").DynamicCache

FLOAT32 = 2e-5
# transformers rounds norms and logits of a float64 model to float32: one such rounding may flip.
FLOAT64 = 2e-6
CHUNKS = [1, 3, 13]


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def logits(model, ids, **kwargs):
    with torch.no_grad():
        return model(ids, **kwargs).logits


def test_forward_equals_stock(name):
    model, ids = tiny(name), tokens(2, 70)
    stock = logits(model, ids)
    with engine(model) as report:
        assert len(report.layers) == 2
        assert report.left == ()
        assert (logits(model, ids) - stock).abs().max() < FLOAT32
    assert torch.equal(logits(model, ids), stock)


def test_gradients_equal_stock(name):
    model, ids = tiny(name).train(), tokens(2, 30)

    def gradients():
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        return {key: value.grad.clone() for key, value in model.named_parameters()}

    stock = gradients()
    with engine(model):
        ours = gradients()
    assert stock.keys() == ours.keys()
    for key, wanted in stock.items():
        scale = wanted.abs().max().clamp_min(1e-3)
        assert (ours[key] - wanted).abs().max() / scale < 1e-4, key


def test_generation_equals_stock(name):
    model, ids = tiny(name), tokens(2, 9)
    settings = {"max_new_tokens": 16, "do_sample": False}
    stock = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    with engine(model):
        ours = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    assert torch.equal(ours, stock)


@pytest.mark.parametrize("first", [1, 3, 13, 8, 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_continuing_from_a_cache_equals_the_whole(name, first, dtype):
    model, ids = tiny(name, dtype=dtype), tokens(2, 30)
    tolerance = FLOAT32 if dtype == torch.float32 else FLOAT64
    with engine(model), torch.no_grad():
        whole = model(ids).logits
        begun = model(ids[:, :first], use_cache=True)
        rest = model(ids[:, first:], cache_params=begun.cache_params, use_cache=True)
    pieces = torch.cat([begun.logits, rest.logits], dim=1)
    assert (pieces - whole).abs().max() < tolerance


@pytest.mark.parametrize("chunk", CHUNKS)
def test_any_chunking_equals_the_whole(name, chunk):
    model, ids = tiny(name, dtype=torch.float64), tokens(2, 27)
    with engine(model), torch.no_grad():
        whole, cache, pieces = model(ids).logits, None, []
        for part in ids.split(chunk, dim=1):
            out = model(part, cache_params=cache, use_cache=True)
            cache = out.cache_params
            pieces.append(out.logits)
    assert (torch.cat(pieces, dim=1) - whole).abs().max() < FLOAT64


@pytest.mark.parametrize("limit", [(0.0, float("inf")), (0.3, 0.5)])
def test_mamba2_clamps_steps_on_every_path(limit):
    model = tiny("mamba2", dtype=torch.float64, time_step_limit=limit)
    ids = tokens(1, 12)
    with engine(model), torch.no_grad():
        whole, cache, pieces = model(ids).logits, None, []
        for part in ids.split(1, dim=1):
            out = model(part, cache_params=cache, use_cache=True)
            cache = out.cache_params
            pieces.append(out.logits)
    assert (torch.cat(pieces, dim=1) - whole).abs().max() < FLOAT64


@pytest.mark.parametrize("side", ["left", "right", "both"])
def test_each_padded_row_equals_its_solo_run(name, side):
    model, ids = tiny(name, dtype=torch.float64), tokens(3, 14)
    lengths = [14, 5, 2]
    batch, mask = torch.zeros(3, 14, dtype=torch.int64), torch.zeros(3, 14, dtype=torch.int64)
    for row, length in enumerate(lengths):
        gap = 14 - length
        start = {"left": gap, "right": 0, "both": gap // 2}[side]
        batch[row, start : start + length] = ids[row, :length]
        mask[row, start : start + length] = 1
    following = tokens(3, 6, seed=1)
    with engine(model), torch.no_grad():
        out = model(batch, attention_mask=mask, use_cache=True)
        padded = out.logits
        later = model(following, cache_params=out.cache_params, use_cache=True).logits
        for row, length in enumerate(lengths):
            alone = model(torch.cat([ids[row, :length], following[row]])[None]).logits[0]
            valid = padded[row][mask[row].bool()]
            assert (valid - alone[:length]).abs().max() < FLOAT64
            assert (later[row] - alone[length:]).abs().max() < FLOAT64


def test_left_padded_generation_equals_solo(name):
    model, ids = tiny(name), tokens(2, 10)
    mask = torch.ones_like(ids)
    ids[1, :6], mask[1, :6] = 0, 0
    settings = {"max_new_tokens": 16, "do_sample": False}
    with engine(model):
        batch = model.generate(ids, attention_mask=mask, **settings)
        alone = model.generate(ids[1:, 6:], attention_mask=mask[1:, 6:], **settings)
    assert torch.equal(batch[1, 10:], alone[0, 4:])


def test_right_padded_generation_is_refused_by_name(name):
    model, ids = tiny(name), tokens(2, 6)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    with engine(model), pytest.raises(UnsupportedError, match="padded on the right"):
        model.generate(ids, attention_mask=mask, max_new_tokens=2)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_under_bf16_autocast(name, checkpointing):
    model, ids = tiny(name).train(), tokens(2, 20)
    if checkpointing:
        model.activation_checkpointing_enable()
    with engine(model):
        wide = model(ids, labels=ids).loss
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(ids, labels=ids).loss
        loss.backward()
    assert abs(float(loss.detach()) - float(wide.detach())) < 0.1
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert bool(parameter.grad.isfinite().all()), key


def test_checkpointing_changes_no_gradient(name):
    model, ids = tiny(name).train(), tokens(1, 20)
    found = []
    with engine(model):
        for enable in (False, True):
            if enable:
                model.activation_checkpointing_enable()
            model.zero_grad()
            model(ids, labels=ids).loss.backward()
            found.append({key: p.grad.clone() for key, p in model.named_parameters()})
    for key, wanted in found[0].items():
        assert torch.allclose(found[1][key], wanted, rtol=1e-5, atol=1e-7), key


def test_a_half_precision_model_carries_a_full_precision_state(name):
    model, ids = tiny(name, dtype=torch.bfloat16), tokens(1, 12)
    with engine(model), torch.no_grad():
        out = model(ids, use_cache=True)
        assert out.cache_params.get_recurrent_state(0).dtype == torch.float32
        assert bool(model(ids[:, :1], cache_params=out.cache_params).logits.isfinite().all())


def test_the_engine_leaves_no_trace(name):
    model = tiny(name)
    kinds = [type(part) for part in model.modules()]
    keys = list(model.state_dict())
    report = accelerate_(model)
    assert accelerate_(model) == report
    assert list(model.state_dict()) == keys
    assert type(model).__name__ == kinds[0].__name__
    with engine(model):
        pass
    assert type(model.backbone.layers[0].mixer) is not kinds[-1]
    copied = copy.deepcopy(model)
    assert [type(part) for part in copied.modules()] == kinds
    restored = restore_(model)
    assert set(report.layers) < set(restored)
    assert [type(part) for part in model.modules()] == kinds
    assert restore_(model) == ()


def test_the_engine_saves_the_stock_model(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    model, ids = tiny(name), tokens(1, 8)
    wanted = logits(model, ids)
    with engine(model):
        model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert torch.equal(logits(loaded.eval(), ids), wanted)


def test_an_exception_inside_the_block_restores_too(name):
    model = tiny(name)
    kind = type(model.backbone.layers[0].mixer)
    with pytest.raises(RuntimeError, match="stop"), engine(model):
        raise RuntimeError("stop")
    assert type(model.backbone.layers[0].mixer) is kind


def test_a_model_without_known_mixers_is_refused():
    with pytest.raises(UnsupportedError, match="MambaMixer"):
        accelerate_(torch.nn.Linear(2, 2))


def test_state_offset_and_initial_state_take_part(name):
    model, ids = tiny(name, dtype=torch.float64), tokens(1, 9)
    mixer = model.backbone.layers[0].mixer
    with engine(model), torch.no_grad():
        base = model(ids).logits
        shape = (5, 8, 5) if name == "mamba2" else (40, 5)
        draw = torch.Generator().manual_seed(3)
        for extra in ("state_offset", "initial_state"):
            value = torch.randn(*shape, generator=draw, dtype=torch.float64)
            setattr(mixer, extra, torch.nn.Parameter(value))
            changed = model(ids).logits
            assert (changed - base).abs().max() > 1e-4
            begun = model(ids[:, :4], use_cache=True)
            rest = model(ids[:, 4:], cache_params=begun.cache_params).logits
            assert (torch.cat([begun.logits, rest], 1) - changed).abs().max() < FLOAT64
            delattr(mixer, extra)


def test_a_mixer_in_float64_is_exact_on_every_path():
    mixer = tiny("mamba", dtype=torch.float64).backbone.layers[0].mixer
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 11, 20, generator=draw, dtype=torch.float64)
    with engine(mixer), torch.no_grad():
        whole = mixer(hidden)
        for chunk in (1, 3, 4, 10):
            cache = DynamicCache(config=mixer.config)
            pieces = [mixer(part, cache_params=cache) for part in hidden.split(chunk, dim=1)]
            assert (torch.cat(pieces, dim=1) - whole).abs().max() < 1e-12
