"""Perplexity: against the definition in float64, whatever the rows, the batch or the padding."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith import api
from ssmith.core.errors import DataError, InputError, NumericalError
from ssmith.core.text import Text, TokenStream
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation import ACCURACY, language, perplexity
from ssmith.evaluation.language import compare_losses, measure_perplexity, perplexity_of
from ssmith.evaluation.language_parity import stock_difference
from ssmith.evaluation.perplexity import window_losses


def text(count=170, vocabulary=61):
    draw = torch.Generator().manual_seed(7)
    ids = torch.randint(1, vocabulary, (count,), generator=draw)
    stream = TokenStream(ids=ids, text_bytes=ids % 5)
    return Text(
        name="noise", splits={"test": stream, "all": stream}, vocabulary=vocabulary, sha256="x"
    )


def by_definition(model, windows):
    """Row by row, alone and unpadded, through the model's own code, from all its logits."""
    sums = []
    for ids, length, first in zip(windows.ids, windows.lengths, windows.scored_from, strict=True):
        row = ids[: int(length)]
        with torch.no_grad():
            logits = model(input_ids=row[None]).logits[0].double()
        chances = logits.log_softmax(dim=-1)
        sums.append(-sum(chances[at - 1, row[at]] for at in range(int(first), int(length))))
    return torch.stack(sums)


@pytest.mark.parametrize("name", [*NAMES, "jamba", "falcon_h1"])
@pytest.mark.parametrize("stride", [None, 9])
def test_losses_are_those_of_each_row_alone(name, stride, monkeypatch):
    model = (tiny if name in NAMES else tiny_hybrid)(name, dtype=torch.float64)
    windows = text().windows(24, stride=stride)
    assert windows.pad_share > 0
    expected = by_definition(model, windows)
    for batch, at_once in ((1, 1 << 24), (5, 61 * 3), (64, 1)):
        monkeypatch.setattr(perplexity, "_SCORES_AT_ONCE", at_once)
        found = window_losses(model, windows, batch_size=batch)
        # The model's own code rounds its logits to float32.
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_a_head_that_does_more_than_multiply_is_left_whole():
    model = tiny("mamba", dtype=torch.float64)
    windows = text().windows(24)
    expected = 0.5 * window_losses(model, windows)

    class Cooled(type(model)):
        def forward(self, *args, **settings):
            out = super().forward(*args, **settings)
            out.logits = 0.0 * out.logits
            return out

    other = copy.deepcopy(model)
    other.__class__ = Cooled
    found = window_losses(other, windows)
    tokens = (windows.lengths - windows.scored_from).double()
    torch.testing.assert_close(found, tokens * math.log(61))
    assert not torch.allclose(found, expected)


def test_the_model_is_left_as_it_was():
    model = tiny("mamba").train()
    forward = type(model.backbone.layers[0].mixer)
    window_losses(model, text().windows(24))
    assert model.training
    assert type(model.backbone.layers[0].mixer) is forward


def test_perplexity_and_bits_are_ratios_of_sums():
    windows = text(100).windows(30)
    losses = torch.tensor([10.0, 20.0, 30.0, 5.0], dtype=torch.float64)
    found = perplexity_of(losses, windows, ("scan: plain",), resamples=200)
    tokens = 29 * 3 + 9
    assert found.tokens == windows.scored == tokens
    assert found.perplexity.value == pytest.approx(math.exp(65 / tokens))
    assert found.bits_per_byte.value == pytest.approx(65 / math.log(2) / found.text_bytes)
    assert found.perplexity.low < found.perplexity.value < found.perplexity.high
    for part in ("noise", "split test", "4 rows of 30", "stride 30", f"{tokens} counted"):
        assert part in str(found)
    assert found.as_dict()["windows"]["details"]["stride"] == 30
    assert found.as_dict()["paths"] == ["scan: plain"]


def test_windows_without_bytes_have_no_bits():
    windows = TokenWindows(
        ids=torch.ones(2, 5, dtype=torch.int64),
        lengths=torch.tensor([5, 5]),
        scored_from=torch.tensor([1, 1]),
        text_bytes=None,
        vocabulary=4,
        name="ids",
    )
    found = perplexity_of(torch.tensor([1.0, 2.0]).double(), windows, (), resamples=100)
    assert found.bits_per_byte is None
    assert "bits" not in str(found)


@given(st.lists(st.floats(1, 50), min_size=6, max_size=12), st.floats(-0.3, 0.3))
def test_a_constant_change_has_no_spread(losses, change):
    windows = text(30 * len(losses)).windows(30)
    before = torch.tensor(losses).double()
    found = compare_losses(before, before + 29 * change, windows, ((), ()), resamples=100)
    assert found.increase.value == pytest.approx(math.expm1(change), abs=1e-12)
    assert found.loss_lower_bound == pytest.approx(found.loss_upper_bound, abs=1e-9)


def test_exchanging_the_models_turns_the_ratio_over():
    windows = text(240).windows(30)
    draw = torch.Generator().manual_seed(1)
    before, after = (torch.rand(8, generator=draw).double() * 40 for _ in range(2))
    there = compare_losses(before, after, windows, ((), ()), resamples=500)
    back = compare_losses(after, before, windows, ((), ()), resamples=500)
    assert (1 + there.increase.value) * (1 + back.increase.value) == pytest.approx(1)
    assert (1 + there.increase.low) * (1 + back.increase.high) == pytest.approx(1)
    assert there.p == back.p
    assert there.as_dict()["loss"]["value"] == pytest.approx(there.increase.value)


def test_p_is_the_share_of_swaps_that_differ_as_much():
    change = torch.tensor([3.0, 2.0, 1.0, 0.5]).double()
    sums = [
        abs(sum((-1) ** (code >> bit & 1) * float(change[bit]) for bit in range(4)))
        for code in range(16)
    ]
    exact = sum(item >= 6.5 for item in sums) / 16
    assert language._swap_test(change, seed=0, resamples=40_000) == pytest.approx(exact, abs=0.01)
    assert language._swap_test(0 * change, seed=0, resamples=100) == 1


def test_the_spine_measures_and_compares_text():
    model, windows = tiny("mamba"), text().windows(24)
    found = api.measure(model, windows)
    assert found == measure_perplexity(model, windows)
    worse = copy.deepcopy(model)
    with torch.no_grad():
        worse.backbone.embeddings.weight.mul_(3)
    change = api.compare(model, worse, windows)
    assert change.before == found
    assert change.increase.value == pytest.approx(
        change.after.perplexity.value / change.before.perplexity.value - 1
    )
    with pytest.raises(InputError, match="metric accuracy on text"):
        api.measure(model, windows, ACCURACY)
    with pytest.raises(InputError, match="batch_size is 0"):
        api.measure(model, windows, batch_size=0)


def test_tokens_the_model_does_not_know_are_refused():
    with pytest.raises(DataError, match=r"noise has token id \d\d.*ids below 61"):
        window_losses(tiny("mamba"), text(vocabulary=90).windows(24))


def test_a_model_that_breaks_is_said_to():
    model = tiny("mamba")
    with torch.no_grad():
        model.backbone.norm_f.weight[0] = float("nan")
    with pytest.raises(NumericalError, match="window 0 of noise is nan"):
        window_losses(model, text().windows(24))


def test_a_row_of_one_token_has_nothing_to_count():
    windows = TokenWindows(
        ids=torch.ones(1, 1, dtype=torch.int64),
        lengths=torch.tensor([1]),
        scored_from=torch.tensor([1]),
        text_bytes=None,
        vocabulary=4,
        name="dot",
    )
    with pytest.raises(DataError, match="no token of dot is counted"):
        measure_perplexity(tiny("mamba"), windows)


def test_half_precision_is_held_to_stock_code_by_its_formula_and_not_by_its_rounding():
    model = tiny("mamba", dtype=torch.bfloat16)
    assert stock_difference(model, tokens(2, 12)) < 1e-9
