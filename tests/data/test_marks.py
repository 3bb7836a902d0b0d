"""What a tokenizer puts around a text by itself: once for each row, and never counted."""

import json

import pytest
import torch

from helpers.texts import BEGIN, END, save_tokenizer, tokenizer
from ssmith.core.errors import DataError, InputError
from ssmith.data import ByteTokenizer, ExamplesConfig, load_examples, load_text

TEXT = "Answer: yes, then what is this thing? " * 20


@pytest.fixture
def text(tmp_path):
    def make(**options):
        (tmp_path / "notes.txt").write_text(TEXT)
        made = save_tokenizer(tmp_path / "model", **options)
        return load_text(tmp_path / "notes.txt", tokenizer=made, vocabulary=320)

    return make


@pytest.mark.parametrize("stride", [None, 5])
def test_each_window_begins_as_the_tokenizer_begins_a_text_and_counts_every_token_once(
    text, stride
):
    marked, plain = text(), text(begin=False)
    assert (marked.begin, plain.begin) == ((BEGIN,), ())
    assert marked.details["before_each_row"] == f"id {BEGIN}"
    windows = marked.windows(12, stride=stride, split="all")
    assert windows.ids[:, 0].tolist() == [BEGIN] * len(windows)
    stream = marked.split("all").ids.tolist()
    counted = [
        windows.ids[row, int(windows.scored_from[row]) : int(windows.lengths[row])].tolist()
        for row in range(len(windows))
    ]
    assert [token for row in counted for token in row] == stream
    assert int(windows.text_bytes.sum()) == len(TEXT.encode())
    bare = plain.windows(12, stride=stride, split="all")
    # Without a mark nothing stands before the first token, which is not counted then.
    first = 1 if stride else len(bare)
    assert bare.scored == len(stream) - first


def test_drawn_rows_begin_so_too_and_a_mark_alone_is_no_row(text):
    drawn = text().sample(4, 9, seed=3, split="all")
    assert drawn.ids.shape == (4, 9)
    assert drawn.ids[:, 0].tolist() == [BEGIN] * 4
    with pytest.raises(InputError, match="length is 2"):
        text_of_two(text()).windows(2)


def text_of_two(text):
    return type(text)(
        name=text.name, splits=text.splits, vocabulary=text.vocabulary, begin=(BEGIN, BEGIN)
    )


def test_the_end_that_a_post_processor_adds_is_no_beginning(tmp_path):
    found = tokenizer(tmp_path, end=True)
    assert found.begin == (BEGIN,)
    assert found.end == END
    assert END not in found.encode("Answer: yes")


def test_what_auto_tokenizer_opens_is_opened(tmp_path):
    save_tokenizer(tmp_path / "whole")
    inner = json.loads((tmp_path / "whole" / "tokenizer.json").read_text())["model"]
    apart = tmp_path / "apart"
    apart.mkdir()
    (apart / "vocab.json").write_text(json.dumps(inner["vocab"]))
    pairs = "\n".join(pair if isinstance(pair, str) else " ".join(pair) for pair in inner["merges"])
    (apart / "merges.txt").write_text(f"#version: 0.2\n{pairs}")
    (apart / "config.json").write_text('{"model_type": "mamba"}')
    (tmp_path / "t.txt").write_text("Answer: yes")
    ids = load_text(tmp_path / "t.txt", tokenizer=apart, vocabulary=320).split("all").ids
    assert [inner["vocab"][piece] for piece in ("Answer", ":")] == ids[:2].tolist()


def test_half_a_surrogate_pair_is_refused_by_name(tmp_path):
    for reader in (ByteTokenizer(), tokenizer(tmp_path)):
        with pytest.raises(DataError, match=r"surrogate pair, '\\ud800', at character 4"):
            reader.encode("bad \ud800")


def test_bytes_have_no_mark_and_say_where_each_character_ends():
    assert ByteTokenizer().begin == ()
    ids, ends = ByteTokenizer().placed("aß")
    assert torch.tensor(ids).tolist() == [97, 195, 159]
    assert ends == [1, 2, 2]


def pair(path, prompt, completion, **more):
    path.write_text(json.dumps({"prompt": prompt, "completion": completion, **more}))
    return path


def only(path, found, **config):
    data = load_examples(path, found, ExamplesConfig(**config))
    return data.split("train")[0], data.details


def test_prompt_and_answer_are_read_as_the_one_text_they_are(tmp_path):
    found = tokenizer(tmp_path / "m", metaspace=True)
    place = pair(tmp_path / "a.jsonl", "Question: this, then", " what", split="train")
    row, _ = only(place, found, end=False)
    assert row.ids.tolist() == [BEGIN, *found.encode("Question: this, then what")]
    assert found.decode(row.ids[row.start :].tolist()).strip() == "what"
    # Alone, an answer would begin with the blank that this tokenizer puts before a text.
    place = pair(tmp_path / "b.jsonl", "what", "is", split="train")
    row, _ = only(place, found, end=False)
    assert found.decode(row.ids.tolist()) == "whatis"


def test_a_boundary_inside_a_token_is_counted_and_the_token_is_the_answers(tmp_path):
    found = tokenizer(tmp_path / "m")
    whole = found.encode("Answer: yes")
    inside = found.decode(whole[:1])[:-1]
    place = pair(tmp_path / "a.jsonl", inside, "Answer: yes"[len(inside) :], split="train")
    row, details = only(place, found, end=False)
    assert row.ids.tolist() == [BEGIN, *whole]
    assert row.start == 1
    assert details["cut"] == {"answers that begin inside a token": 1}


def test_marks_that_stand_in_the_text_already_are_not_doubled(tmp_path):
    found = tokenizer(tmp_path / "m")
    place = pair(tmp_path / "a.jsonl", "<s>Answer:", " yes</s>", split="train")
    ids = only(place, found)[0].ids.tolist()
    assert ids == [BEGIN, *found.encode("Answer: yes"), END]
    place = pair(tmp_path / "b.jsonl", "Answer:", " yes", split="train")
    assert only(place, found)[0].ids.tolist() == ids


def test_every_row_of_a_long_text_begins_and_a_cut_prompt_keeps_its_begin(tmp_path):
    found = tokenizer(tmp_path / "m")
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"text": TEXT, "split": "train"}))
    data = load_examples(path, found, ExamplesConfig(length=16, end=False))
    rows = data.split("train")
    assert {int(row.ids[0]) for row in rows} == {BEGIN}
    assert [token for row in rows for token in row.ids[1:].tolist()] == found.encode(TEXT)
    place = pair(tmp_path / "p.jsonl", TEXT, "yes", split="train")
    row, details = only(place, found, length=12)
    assert row.ids[0] == BEGIN
    assert len(row.ids) == 12
    assert details["cut"]["prompts cut"] == 1
