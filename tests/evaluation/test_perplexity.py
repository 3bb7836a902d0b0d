"""Perplexity: against the definition in float64, whatever the rows, the batch or the padding."""

import copy
import math

import pytest
import torch

from helpers.tiny_hybrids import tiny_hybrid
from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith import api
from ssmith.core.errors import DataError, InputError, NumericalError
from ssmith.core.text import Text, TokenStream
from ssmith.core.tokens import TokenWindows
from ssmith.evaluation import perplexity
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
    model, windows = tiny("mamba", dtype=torch.float64), text(100).windows(30)
    losses = window_losses(model, windows)
    found = api.evaluate(model, windows)
    tokens = 29 * 3 + 9
    assert found.weight == windows.scored == tokens
    assert found.value == pytest.approx(math.exp(float(losses.sum()) / tokens))
    per_byte = found.also["bits per byte"]
    assert per_byte.weight == float(windows.text_bytes.sum())
    assert per_byte.value == pytest.approx(float(losses.sum()) / math.log(2) / per_byte.weight)
    assert found.low < found.value < found.high
    for part in ("noise", "split test", "4 rows of 30", "stride 30", f"{tokens} counted"):
        assert part in str(found)
    assert found.rows.details["stride"] == 30
    assert any("scan" in path for path in found.paths)


def test_windows_without_bytes_have_no_bits():
    windows = TokenWindows(
        ids=torch.ones(2, 5, dtype=torch.int64),
        lengths=torch.tensor([5, 5]),
        scored_from=torch.tensor([1, 1]),
        text_bytes=None,
        vocabulary=61,
        name="ids",
    )
    found = api.evaluate(tiny("mamba"), windows)
    assert not found.also
    assert "bits" not in str(found)


def test_the_spine_measures_and_compares_text():
    model, windows = tiny("mamba"), text().windows(24)
    found = api.evaluate(model, windows)
    assert found == api.evaluate(model, windows, "perplexity")
    worse = copy.deepcopy(model)
    with torch.no_grad():
        worse.backbone.embeddings.weight.mul_(3)
    change = api.compare(model, worse, windows)
    assert change.before == found
    assert change.change.value == pytest.approx(change.after.value / change.before.value - 1)
    assert "change: " in str(change)
    assert "on noise" in str(change)
    with pytest.raises(InputError, match="accuracy on text"):
        api.evaluate(model, windows, "accuracy")
    with pytest.raises(InputError, match="batch_size is 0"):
        api.evaluate(model, windows, batch_size=0)


def test_tokens_the_model_does_not_know_are_refused():
    with pytest.raises(DataError, match=r"noise has token id \d\d.*ids below 61"):
        window_losses(tiny("mamba"), text(vocabulary=90).windows(24))


def test_a_model_that_breaks_is_said_to():
    model = tiny("mamba")
    with torch.no_grad():
        model.backbone.norm_f.weight[0] = float("nan")
    with pytest.raises(NumericalError, match="perplexity of row 0 of noise is nan"):
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
    with pytest.raises(DataError, match="no counted tokens"):
        api.evaluate(tiny("mamba"), windows)


def test_half_precision_is_held_to_stock_code_by_its_formula_and_not_by_its_rounding():
    model = tiny("mamba", dtype=torch.bfloat16)
    assert stock_difference(model, tokens(2, 12)) < 1e-9
