"""Every method on every family through the same checks: none can be silently off."""

import copy
import dataclasses
import pickle

import pytest
import torch

from helpers.adapting import (
    CHANGES_AT_START,
    FAMILIES,
    LTI,
    MERGES,
    METHODS,
    PAIRS,
    REFUSED,
    SELECTIVE,
    batch_for,
    build,
    disturb_,
    gap,
    run,
)
from helpers.tiny_mamba import tokens
from ssmith import adapters, load_adapter_, merge_adapter_, save_adapter
from ssmith.core.errors import InputError, UnsupportedError
from ssmith.families.hf import engine
from ssmith.tune.adapters.survey import Survey

# transformers rounds norms and logits of a float64 model to float32: one such rounding may flip.
TOLERANCE = dict.fromkeys(SELECTIVE, 5e-6) | dict.fromkeys(LTI, 1e-12)


def base_output(model, batch, family):
    """What the base model gives on the engine, where it has one."""
    if family in LTI:
        return run(model, batch)
    with engine(model):
        return run(model, batch)


def assert_same(found, wanted, family):
    """Bit for bit; but a Fourier transform's last bit depends on where its input lies."""
    assert torch.equal(found, wanted) or (family == "s4d" and gap(found, wanted) < 1e-14)


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request):
    return request.param


def adapted(pair, *, prove=False):
    model = build(pair[0])
    report = adapters.attach_(model, METHODS[pair[1]], prove=prove)
    if pair[1] == "core":
        disturb_(model)
        adapters.select_(model)
        proof = adapters.prove(model) if prove else {}
        report = dataclasses.replace(adapters.recounted(model, report), proof=proof)
    return model, report


def test_it_starts_as_the_base_and_acts_once_disturbed(pair):
    family, method = pair
    batch = batch_for(family)
    base = base_output(build(family), batch, family)
    model, report = adapted(pair, prove=True)
    started = run(model, batch)
    if method in CHANGES_AT_START:
        assert gap(started, base) > 1e-4
    else:
        assert_same(started, base, family)
    assert report.proof.keys() == report.tensors.keys() == adapters.trainable(model).keys()
    assert all(norm > 0 for norm in report.proof.values())
    disturb_(model)
    assert gap(run(model, batch), started) > 1e-6
    with adapters.disabled(model):
        assert_same(run(model, batch), base, family)


def test_only_the_adapter_trains_and_all_of_it(pair):
    model, report = adapted(pair)
    trained = {name for name, tensor in model.named_parameters() if tensor.requires_grad}
    assert trained == set(report.tensors)
    assert report.parameters == sum(t.numel() for t in adapters.trainable(model).values())
    by_group = [set(part) for part in adapters.groups(model).values()]
    assert set().union(*by_group) == trained
    assert sum(map(len, by_group)) == len(trained)
    adapters.check_complete(model)
    survey = Survey.of(build(pair[0]))
    assert report.stored == sum(method.stored(survey) for method in METHODS[pair[1]])


def test_every_tensor_acts_on_its_own(pair):
    model, _ = adapted(pair)
    disturb_(model)
    batch = batch_for(pair[0])
    before = run(model, batch)
    for name, tensor in adapters.trainable(model).items():
        if "s.1." in name:
            # The layers are alike.
            continue
        kept = tensor.detach().clone()
        with torch.no_grad():
            tensor.add_(0.3)
        assert not torch.equal(run(model, batch), before), name
        with torch.no_grad():
            tensor.copy_(kept)


def test_one_step_of_training_moves_it_and_nothing_else(pair):
    model, report = adapted(pair)
    batch = batch_for(pair[0])
    disturb_(model, size=0.01)
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    optimiser = torch.optim.SGD(adapters.trainable(model).values(), lr=0.1)
    out = model.train()(**batch)
    getattr(out, "logits", out).square().sum().backward()
    optimiser.step()
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == set(report.tensors)


def test_it_is_taken_off_without_a_trace(pair):
    family, method = pair
    model = build(family)
    batch = batch_for(family)
    model.requires_grad_(True)
    keys, kinds = list(model.state_dict()), [type(part) for part in model.modules()]
    stock = run(model, batch)
    adapters.attach_(model, METHODS[method])
    disturb_(model)
    adapters.detach_(model, "default")
    assert list(model.state_dict()) == keys
    assert [type(part) for part in model.modules()] == kinds
    assert all(tensor.requires_grad for tensor in model.parameters())
    assert_same(run(model, batch), stock, family)
    assert adapters.adapters_of(model) == {}


def test_copies_and_pickles_keep_acting(pair):
    model, _ = adapted(pair)
    disturb_(model)
    batch = batch_for(pair[0])
    wanted = run(model, batch)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(run(copied, batch), wanted)
        disturb_(copied, seed=1)
        assert not torch.equal(run(copied, batch), wanted)
    assert torch.equal(run(model, batch), wanted)


def test_saved_and_loaded_is_the_same(pair, tmp_path):
    family, method = pair
    model, _ = adapted(pair)
    disturb_(model)
    if method == "sdt":
        adapters.select_(model)
        disturb_(model)
    batch = batch_for(family)
    save_adapter(model, tmp_path / "saved")
    fresh = build(family)
    report = load_adapter_(fresh, tmp_path / "saved", prove=method == "combined")
    assert report.name == "saved"
    assert bool(report.proof) == (method == "combined")
    assert adapters.adapters_of(fresh)["saved"] == adapters.adapters_of(model)["default"]
    assert torch.equal(run(fresh, batch), run(model, batch))


def test_it_merges_exactly_or_is_refused(pair):
    family, method = pair
    model, _ = adapted(pair)
    disturb_(model)
    batch = batch_for(family)
    wanted = run(model, batch)
    keys = list(build(family).state_dict())
    if method not in MERGES:
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(UnsupportedError, match="cannot be merged"):
            merge_adapter_(model)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        return
    report = merge_adapter_(model)
    assert report.left == {}
    assert report.difference <= TOLERANCE[family] * max(1, report.output_size)
    assert list(model.state_dict()) == keys
    merged = base_output(model, batch, family)
    assert gap(merged, wanted) <= TOLERANCE[family] * max(1, float(wanted.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_defined_is_refused_by_name(family):
    refused = {method: why for (where, method), why in REFUSED.items() if where == family}
    for method, why in refused.items():
        model = build(family)
        keys, kinds = list(model.state_dict()), [type(part) for part in model.modules()]
        with pytest.raises((UnsupportedError, InputError), match=why):
            adapters.attach_(model, METHODS[method])
        assert list(model.state_dict()) == keys
        assert [type(part) for part in model.modules()] == kinds


SELECTIVE_PAIRS = [pair for pair in PAIRS if pair[0] in SELECTIVE]


@pytest.mark.parametrize(("family", "method"), SELECTIVE_PAIRS)
def test_whole_is_chunks_is_steps(family, method):
    model, _ = adapted((family, method))
    disturb_(model)
    ids = tokens(2, 11)
    whole = run(model, {"input_ids": ids})
    for chunk in (1, 5):
        cache, pieces = None, []
        for part in ids.split(chunk, dim=1):
            with torch.no_grad():
                out = model(part, cache_params=cache, use_cache=True)
            cache = out.cache_params
            pieces.append(out.logits)
        assert gap(torch.cat(pieces, dim=1), whole) < TOLERANCE[family] * 3, chunk


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("family", "method"), SELECTIVE_PAIRS)
def test_a_padded_row_equals_its_solo_run(family, method, side):
    model, _ = adapted((family, method))
    disturb_(model)
    ids, length = tokens(2, 12), 7
    mask = torch.ones_like(ids)
    place = slice(12 - length, None) if side == "left" else slice(0, length)
    batch = ids.clone()
    batch[1], mask[1] = 0, 0
    batch[1, place], mask[1, place] = ids[1, :length], 1
    together = run(model, {"input_ids": batch, "attention_mask": mask})
    assert gap(together[0], run(model, {"input_ids": ids[:1]})[0]) < TOLERANCE[family] * 3
    alone = run(model, {"input_ids": ids[1:, :length]})[0]
    assert gap(together[1, place], alone) < TOLERANCE[family] * 3


@pytest.mark.parametrize(("family", "method"), SELECTIVE_PAIRS)
def test_generation_starts_from_the_adapter_too(family, method):
    model = build(family, dtype=torch.float32)
    adapters.attach_(model, METHODS[method])
    disturb_(model)
    ids = tokens(1, 3)
    made = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False
    )
    for length in range(3, 7):
        logits = run(model, {"input_ids": made[:, :length]})[0, -1]
        # Within rounding, the token taken is the best one of a pass over the whole text.
        assert float(logits.max() - logits[made[0, length]]) < 1e-4


@pytest.mark.parametrize("family", LTI)
@pytest.mark.parametrize("method", ["offset-y", "initial-state", "lora"])
def test_steps_and_chunks_of_our_own_models_heed_it(family, method):
    model, _ = adapted((family, method))
    disturb_(model)
    x = batch_for(family)["x"]
    whole = run(model, {"x": x})
    with torch.no_grad():
        state = model.initial_state(2)
        for t in range(x.shape[1]):
            answer, state = model.step(x[:, t], state)
        assert gap(answer, whole) < 1e-12
        state = model.initial_state(2)
        for part in x.split(4, dim=1):
            answer, state = model.scan(part, state)
        assert gap(answer, whole) < 1e-12
