"""Answers are written alike alone and in a batch, and judged so that nothing unreadable wins."""

import pytest
import torch

from helpers.tiny_mamba import NAMES, tiny, tokens
from ssmith.core.errors import DataError, InputError
from ssmith.evaluation.generation import GenerationConfig, generate, judge_labels, judge_texts

pytest.importorskip("transformers")


class Letters:
    """A tokenizer of 60 signs; id 0 ends a text."""

    name, vocabulary, end, begin = "letters", 61, 0, ()

    def encode(self, text):
        return [ord(item) - 64 for item in text]

    def placed(self, text):
        return self.encode(text), list(range(1, len(text) + 1))

    def render(self, turns, *, asked=False):
        raise AssertionError("no conversation here")

    def decode(self, ids):
        return "".join(chr(64 + item) for item in ids if item)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_batch_writes_what_each_prompt_does_alone(name, beams):
    model = tiny(name)
    prompts = [tokens(1, length, seed=length)[0] for length in (3, 9, 5, 6)]
    config = GenerationConfig(beams=beams, most=7, batch_size=3)
    together, ended = generate(model, prompts, Letters(), config)
    alone = [generate(model, [prompt], Letters(), config)[0][0] for prompt in prompts]
    assert together == alone
    assert all(len(text) == 7 or stop for text, stop in zip(together, ended, strict=True))
    assert len(set(together)) > 1


def test_greedy_takes_the_likeliest_token_each_time():
    model = tiny("mamba")
    prompt = tokens(1, 4)[0]
    (found,), _ = generate(model, [prompt], Letters(), GenerationConfig(most=5))
    ids = prompt
    for _ in range(5):
        with torch.no_grad():
            ids = torch.cat([ids, model(ids[None]).logits[0, -1].argmax()[None]])
    assert found == Letters().decode(ids[4:].tolist())


def test_the_end_stops_an_answer():
    model = tiny("mamba")
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        model.lm_head.weight.zero_()
    done = []
    answers, ended = generate(
        model, [tokens(1, 4)[0]] * 2, Letters(), GenerationConfig(most=9, batch_size=1),
        lambda *told: done.append(told),
    )  # fmt: skip
    assert answers == ["", ""]
    assert ended == [True, True]
    assert done == [(1, 2), (2, 2)]


def test_texts_against_the_best_of_their_references():
    pytest.importorskip("rouge_score")
    pytest.importorskip("sacrebleu")
    perfect = judge_texts(["the cat sat down here"], [["a dog", "the cat sat down here"]])
    assert perfect == pytest.approx(dict.fromkeys(perfect, 100.0))
    long = "the cat sat down on the mat"
    assert 0 < judge_texts([long], [[f"{long} here"]])["bleu"] < 100
    found = judge_texts(["the cat", "no"], [["the cat sat"], ["yes", "no"]])
    # One of three words is missing from the first: F1 = 2·1·(2/3)/(5/3).
    assert found["rouge1"] == pytest.approx((80 + 100) / 2)
    assert found["exact_match"] == 50
    with pytest.raises(DataError, match="references"):
        judge_texts(["a"], [[]])


def test_unreadable_answers_are_wrong():
    labels = ["positive", "negative"]
    answers = ["positive", " Negative.\n", "\n\n'positive'", "positive or negative", "", "maybe"]
    right = ["positive", "negative", "negative", "positive", "negative", "positive"]
    accuracy, unparsable = judge_labels(answers, right, labels)
    assert unparsable == 3
    assert accuracy == pytest.approx(100 * 2 / 6)
    with pytest.raises(InputError, match="case"):
        judge_labels(["a"], ["a"], ["a", "A"])
    with pytest.raises(InputError, match="no label"):
        judge_labels(["a"], ["b"], ["a", "c"])


def test_empty_prompts_and_odd_settings_are_refused():
    with pytest.raises(DataError, match="empty"):
        generate(tiny("mamba"), [torch.zeros(0, dtype=torch.long)], Letters())
    for wrong in ({"beams": 0}, {"most": 0}, {"least": 300}):
        with pytest.raises(InputError):
            GenerationConfig(**wrong)


def test_settings_of_the_model_never_reach_what_is_written():
    model = tiny("mamba")
    prompts = [tokens(1, length, seed=length)[0] for length in (3, 5)]
    plain, _ = generate(model, prompts, Letters(), GenerationConfig(most=7))
    own = model.generation_config
    own.repetition_penalty, own.num_return_sequences = 9.0, 2
    own.suppress_tokens = list(range(1, 40))
    again, _ = generate(model, prompts, Letters(), GenerationConfig(most=7))
    assert again == plain
    assert model.generation_config is own
    assert own.repetition_penalty == 9.0
