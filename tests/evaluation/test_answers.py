"""What a model answers to a harness of tasks, against likelihoods worked out token by token.

The judge is the stock model, which computes norms in float32 even where it is float64.
"""

from types import SimpleNamespace

import pytest
import torch

from helpers.tiny_mamba import tiny
from ssmith.core.errors import DataError, UnsupportedError
from ssmith.data import ByteTokenizer
from ssmith.evaluation.answers import LiveModel, score_continuations

BYTES = ByteTokenizer()


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("transformers")
    return tiny("mamba", vocab_size=256).double().eval()


@pytest.fixture
def live(model):
    return LiveModel(model, BYTES, batch_size=3)


def ask(*rows):
    return [SimpleNamespace(args=row) for row in rows]


@torch.no_grad()
def by_hand(model, before, after):
    """Add up one token's log-probability after the other."""
    total, greedy = 0.0, True
    for place, token in enumerate(after):
        ids = torch.tensor([[*before, *after[:place]]])
        scores = model(input_ids=ids).logits[0, -1].log_softmax(-1)
        total += float(scores[token])
        greedy &= int(scores.argmax()) == token
    return total, greedy


def test_continuations_are_scored_as_token_by_token(model):
    best = int(model(input_ids=torch.tensor([[5, 6]])).logits[0, -1].argmax())
    rows = [([1, 2, 3], [4, 5]), ([9], [7]), ([5, 6], [best]), ([3] * 11, [1, 2, 8]), ([4], [])]
    found = score_continuations(model, rows, batch_size=2)
    for row, (nats, greedy) in zip(rows, found, strict=True):
        expected = by_hand(model, *row)
        assert nats == pytest.approx(expected[0], abs=1e-5)
        assert greedy == expected[1]
    assert found[2][1]
    with pytest.raises(DataError, match="nothing stands before"):
        score_continuations(model, [([], [1])])


def test_a_text_is_all_of_its_tokens(model, live):
    (whole,) = live.loglikelihood_rolling(ask(("abc",)))
    assert whole == pytest.approx(by_hand(model, [0], list(b"abc"))[0], abs=1e-5)
    (empty_context,) = live.loglikelihood(ask(("", "abc")))
    assert empty_context[0] == pytest.approx(whole, abs=1e-12)
    # A context stands at the very beginning: nothing is put before it.
    (rest,) = live.loglikelihood(ask(("a", "bc")))
    assert rest[0] == pytest.approx(by_hand(model, list(b"a"), list(b"bc"))[0], abs=1e-5)


def test_blanks_between_belong_to_the_continuation(live):
    one, other = live.loglikelihood(ask(("say ", "yes"), ("say", " yes")))
    assert one[0] == pytest.approx(other[0], abs=1e-12)


def test_answers_end_where_the_task_says(live):
    prompt, settings = "ab", {"until": [], "max_gen_toks": 6, "do_sample": False}
    long, short = live.generate_until(ask((prompt, settings), (prompt, {"max_gen_toks": 2})))
    assert long.startswith(short)
    if len(long) > 1:
        end = long[1]
        (cut,) = live.generate_until(ask((prompt, {**settings, "until": [end, ""]})))
        assert cut == long[: long.index(end)]


@pytest.mark.parametrize("settings", [{"do_sample": True}, {"typical_p": 0.9}])
def test_what_is_not_greedy_is_refused(live, settings):
    with pytest.raises(UnsupportedError, match=next(iter(settings))):
        live.generate_until(ask(("ab", settings)))
