"""Documents through a real tokenizer: ids, joints, and bytes that add up to the text."""

from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmith.data import find_tokenizer, stream_of
from ssmith.data.documents import Document

WORDS = ("der", "Bär", "läuft", "über", "die", "Brücke", "🐻", " ")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A byte-level BPE with a few merges and an end of text, saved as models save it."""
    tokenizers, transformers = import_module("tokenizers"), import_module("transformers")
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<end>"],
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    inner.train_from_iterator([" ".join(WORDS)] * 5, trainer)
    path = tmp_path_factory.mktemp("model")
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<end>")
    made.save_pretrained(path)
    return find_tokenizer(path, 300)


@given(texts=st.lists(st.lists(st.sampled_from(WORDS), min_size=1).map(" ".join), min_size=1))
def test_bytes_of_tokens_add_up_to_the_bytes_of_the_text(tokenizer, texts):
    items = [Document(name=str(i), content=text.encode()) for i, text in enumerate(texts)]
    stream = stream_of(items, tokenizer)
    assert int(stream.text_bytes.sum()) == sum(len(item.content) for item in items)
    assert bool((stream.text_bytes >= 0).all())
    ends = (stream.ids == tokenizer.end).nonzero().flatten().tolist()
    assert len(ends) == len(items)
    assert ends[-1] == len(stream) - 1
    assert stream.text_bytes[ends].tolist() == [0] * len(items)
    first = stream.ids[: ends[0]].tolist()
    assert tokenizer.decode(first) == texts[0]
