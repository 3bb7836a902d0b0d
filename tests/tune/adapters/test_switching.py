"""Several adapters on one base: one, another, both, none, or one for each row of a batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.adapting import FAMILIES, LTI, batch_for, build, disturb_, gap, run
from helpers.tiny_mamba import tiny, tokens
from ssmith import adapters
from ssmith.core.errors import InputError, UnsupportedError

TOLERANCE = 5e-6


def two_adapters(family, first, second):
    model = build(family)
    for seed, (name, method) in enumerate([("a", first), ("b", second)]):
        adapters.attach_(model, method, name=name, prove=False)
        disturb_(model, seed=seed)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_are_switched_and_act_together(family):
    offset = adapters.StateOffset(form="y")
    model = two_adapters(family, offset, adapters.LoRA(rank=2))
    batch = batch_for(family)
    alone = {}
    for names in ((), ("a",), ("b",), ("a", "b")):
        adapters.use_(model, names)
        assert adapters.active(model) == names
        trained = {n for n, t in model.named_parameters() if t.requires_grad}
        assert trained == set(adapters.trainable(model))
        alone[names] = run(model, batch)
    outputs = list(alone.values())
    for number, first in enumerate(outputs):
        assert all(not torch.equal(first, second) for second in outputs[number + 1 :])
    adapters.detach_(model, "a")
    adapters.use_(model, "b")
    assert gap(run(model, batch), alone[("b",)]) < 1e-14


@settings(max_examples=8)
@given(st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=4))
def test_each_row_of_a_batch_has_its_own(rows):
    both = [adapters.StateOffset(form="both"), adapters.InitialState()]
    for family in FAMILIES:
        first = both if family not in LTI else [adapters.StateOffset(form="y"), both[1]]
        model = two_adapters(family, first, first)
        batch = {key: value[:1].repeat_interleave(4, 0) for key, value in batch_for(family).items()}
        batch = {key: value[: len(rows)] for key, value in batch.items()}
        with adapters.rows(model, rows):
            together = run(model, batch)
        for number, name in enumerate(rows):
            adapters.use_(model, () if name is None else name)
            alone = run(model, {key: value[number : number + 1] for key, value in batch.items()})
            assert gap(together[number], alone[0]) < TOLERANCE, (family, name)


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba", "mamba2"])
def test_each_row_has_its_own_in_generation(family):
    model = tiny(family)
    for seed, name in enumerate("ab"):
        offset = [adapters.StateOffset(form="both"), adapters.InitialState()]
        adapters.attach_(model, offset, name=name, prove=False)
        disturb_(model, size=0.4, seed=seed)
    ids = tokens(3, 5)
    given_ = {"max_new_tokens": 5, "do_sample": False}
    with adapters.rows(model, ["a", None, "b"]):
        together = model.generate(ids, attention_mask=torch.ones_like(ids), **given_)
    for number, name in enumerate(["a", None, "b"]):
        adapters.use_(model, () if name is None else name)
        alone = model.generate(
            ids[number : number + 1], attention_mask=torch.ones(1, 5, dtype=torch.int64), **given_
        )
        assert torch.equal(together[number], alone[0])


def test_only_what_rows_can_have_alone_is_taken_by_row():
    model = two_adapters("mamba", adapters.StateOffset(), adapters.LoRA(rank=2))
    with (
        pytest.raises(UnsupportedError, match="all rows of a batch share"),
        adapters.rows(model, ["a", "b"]),
    ):
        pass
    assert adapters.active(model) == ("b",)
    with pytest.raises(InputError, match="adapter 'c'"), adapters.rows(model, ["c"]):
        pass


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", [adapters.StateOffset(form="y"), adapters.InitialState()])
def test_as_many_names_as_rows(family, method):
    model = two_adapters(family, method, method)
    with adapters.rows(model, ["a", "b", "a"]), pytest.raises(InputError, match="for 3 rows"):
        run(model, batch_for(family))


def test_two_adapters_that_train_one_parameter_do_not_act_together():
    D = adapters.Parameters(targets=("D",))
    model = two_adapters("mamba", D, D)
    with pytest.raises(InputError, match=r"both train .*mixer\.D"):
        adapters.use_(model, ["a", "b"])
    assert adapters.active(model) == ("b",)


def test_switching_back_gives_the_parameters_their_gradient():
    model = two_adapters("mamba", adapters.StateOffset(), adapters.InitialState())
    adapters.use_(model, "a")
    assert set(adapters.trainable(model)) == set(adapters.trainable(model, "a"))
    assert all(tensor.requires_grad for tensor in adapters.trainable(model, "a").values())
    assert not any(tensor.requires_grad for tensor in adapters.trainable(model, "b").values())
    adapters.detach_(model, "a")
    assert adapters.active(model) == ()
    assert list(adapters.adapters_of(model)) == ["b"]
