"""Conversations by the model's own template: only what the assistant says is learned."""

import json

import pytest

from helpers.texts import BEGIN, CHATML, END, tokenizer
from ssmith.core.errors import DataError
from ssmith.data import ExamplesConfig, load_examples, load_text
from ssmith.tune.training.objectives import IGNORED, LanguageObjective

TURNS = [("user", "yes?"), ("assistant", "no"), ("user", "what?"), ("assistant", "thing")]


@pytest.fixture
def chatty(tmp_path):
    return tokenizer(tmp_path / "model", template="<s>" + CHATML)


def write(path, row, count=6):
    rows = [{"split": "train"} | row | {"id": i} for i in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def messages(turns=TURNS, role="role", content="content", names=None):
    return [{role: (names or {}).get(r, r), content: text} for r, text in turns]


HUMAN = {"user": "human", "assistant": "gpt"}
FORMS = {
    "messages": {"messages": messages()},
    "sharegpt": {"conversations": messages(role="from", content="value", names=HUMAN)},
    "trl": {"prompt": messages()[:3], "completion": messages()[3:]},
    "mixed": {"prompt": messages()[:3], "completion": "thing"},
    "parts": {"messages": [*messages()[:3], {"role": "assistant", "content": [
        {"type": "text", "text": "thing"}]}]},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_what_the_assistant_says_is_learned_with_its_end_and_nothing_else(tmp_path, chatty, form):
    row = FORMS[form] | {"split": "train"}
    (first, *_) = load_examples(write(tmp_path / "a.jsonl", row), chatty).split("train")
    ids = first.ids.tolist()
    assert ids.count(BEGIN) == 1
    learned = set(range(first.start, len(ids)))
    for start, stop in first.gaps:
        learned -= set(range(start, stop))
    said = [[]]
    for place in sorted(learned):
        said[-1].append(ids[place])
        if ids[place] == END:
            said.append([])
    assert [chatty.decode(part) for part in said] == ["no", "thing", ""]
    assert first.learned == len(learned)
    whole = chatty.inner.decode(ids)
    rendered = chatty.render([{"role": r, "content": text} for r, text in TURNS])
    assert whole.replace(" ", "") == rendered.replace(" ", "")
    # Generation is given all that stands before the last answer.
    assert chatty.inner.decode(ids[: first.asked]).endswith("<|assistant|>")
    assert first.references == ("thing",)


def test_labels_of_a_batch_are_those_of_the_assistant(tmp_path, chatty):
    row = {"messages": messages(), "split": "train"}
    (first, *_) = load_examples(write(tmp_path / "a.jsonl", row), chatty).split("train")
    labels = LanguageObjective().collate([first])["labels"][0].tolist()
    kept = [label for label in labels if label != IGNORED]
    assert len(kept) == first.learned
    assert kept.count(END) == 2
    assert chatty.decode(kept).replace(" ", "") == "nothing"


def test_alpaca_is_rendered_by_the_template_or_by_its_own_words(tmp_path, chatty):
    row = {"instruction": "what is", "input": "this?", "output": "yes", "split": "train"}
    path = write(tmp_path / "a.jsonl", row)
    (first, *_) = load_examples(path, chatty).split("train")
    assert "what is\n\nthis?" in chatty.inner.decode(first.ids.tolist())
    plain = tokenizer(tmp_path / "plain")
    (first, *_) = load_examples(path, plain).split("train")
    prompt = plain.decode(first.ids[: first.start].tolist())
    assert prompt.startswith("Below is an instruction that describes a task, paired with an input")
    assert prompt.endswith("### Input:\nthis?\n\n### Response:\n")
    assert plain.decode(first.ids[first.start :].tolist()) == "yes"


def test_without_a_template_conversations_are_refused_by_name(tmp_path):
    plain = tokenizer(tmp_path / "plain")
    path = write(tmp_path / "a.jsonl", {"messages": messages()})
    with pytest.raises(DataError, match=r"line 1.*has no chat template.*chat_template\.jinja"):
        load_examples(path, plain)


def test_conversations_are_text_to_calibrate_on(tmp_path, chatty):
    path = write(tmp_path / "a.jsonl", {"messages": messages()}, count=3)
    text = load_text(path, tokenizer=tmp_path / "model", vocabulary=320)
    assert text.details["documents"] == 3
    assert chatty.inner.decode(text.split("all").ids.tolist()).count("thing</s>") == 3


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"messages": messages()[:1]}, "the assistant says nothing"),
        ({"messages": []}, "has no turn"),
        ({"messages": [{"role": "user"}]}, "turn 1: content is None"),
        ({"messages": [{"content": "a"}]}, "turn 1 has content; allowed: role and content"),
        ({"messages": ["a"]}, "turn 1 is 'a'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "no images"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "a choice between two answers"),
        ({"instruction": "a", "output": ""}, "output is ''"),
    ],
)
def test_a_conversation_that_is_none_is_refused_by_its_line(tmp_path, chatty, row, said):
    with pytest.raises(DataError, match=f"line 1.*{said}"):
        load_examples(write(tmp_path / "a.jsonl", row), chatty)


def test_a_template_that_rewrites_what_was_said_is_refused(tmp_path):
    last = "{% for m in messages %}{% if loop.last %}<{{ m['role'] }}>{{ m['content'] }}" \
           "{% endif %}{% endfor %}"  # fmt: skip
    odd = tokenizer(tmp_path / "odd", template=last)
    with pytest.raises(DataError, match="changes turns that stand before"):
        load_examples(write(tmp_path / "a.jsonl", {"messages": messages()}), odd)


def test_a_long_conversation_keeps_its_begin_and_is_counted(tmp_path, chatty):
    row = {"messages": messages(), "split": "train"}
    path = write(tmp_path / "a.jsonl", row, count=2)
    (whole, _) = load_examples(path, chatty).split("train")
    short = whole.gaps[0][0] + 1
    data = load_examples(path, chatty, ExamplesConfig(length=short))
    (first, _) = data.split("train")
    assert first.ids.tolist() == whole.ids[: len(first.ids)].tolist()
    assert first.gaps == ()
    assert data.details["cut"] == {"conversations cut": 2, "too long": 2}
    with pytest.raises(DataError, match="no text of split train"):
        load_examples(path, chatty, ExamplesConfig(length=2))
